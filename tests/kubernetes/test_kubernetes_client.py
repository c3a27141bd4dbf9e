"""The client against a real API server: what it writes, what is refused, and what happens when the server goes away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from slipway.client.kubeconfig import portable
from slipway.errors import Conflict, Exhausted, Failed, Invalid, NotFound, SlipwayError, Unavailable
from slipway.kubernetes import Change, ClusterClient, read_kubeconfig
from slipway.kubernetes.watching import Watch
from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import pod


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[ClusterClient]:
    text = portable(cluster.kubeconfig.read_text(), "", cluster.kubeconfig.parent)
    async with await ClusterClient.connect(text) as found:
        yield found


def config_map(namespace: str, name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": {"test": "yes"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def start(client: ClusterClient, namespace: str, image: str, script: str) -> str:
    """A Pod that runs, or has run."""
    await client.create(pod(namespace, "p", image, ["sh", "-c", script]))
    async with asyncio.timeout(60):
        while True:
            found = await client.get("Pod", "p", namespace)
            assert found is not None
            if found["status"].get("phase") != "Pending":
                return "p"
            await asyncio.sleep(0.2)


async def again(work: Callable[[], Awaitable[object]]) -> None:
    """Until it raises."""
    async with asyncio.timeout(30):
        while True:
            await work()


# Writing


async def test_what_one_apply_leaves_out_goes_and_what_others_own_stays(
    client: ClusterClient, cluster: Cluster, namespace: str
) -> None:
    await client.apply(config_map(namespace, "a", ours="1", other="1"))
    cluster.kubectl("--namespace", namespace, "annotate", "configmap", "a", "theirs=yes")
    found = await client.apply(config_map(namespace, "a", ours="2"))
    assert found["data"] == {"ours": "2"}
    assert found["metadata"]["annotations"]["theirs"] == "yes"
    again = await client.apply(config_map(namespace, "a", ours="2"))
    assert again["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"], "nothing was written"


async def test_a_field_of_somebody_else_is_a_conflict_unless_taken(
    client: ClusterClient, cluster: Cluster, namespace: str
) -> None:
    await client.apply(config_map(namespace, "a", key="ours"))
    patch = '{"data": {"key": "theirs"}}'
    cluster.kubectl("--namespace", namespace, "patch", "configmap", "a", "--patch", patch)
    with pytest.raises(Conflict, match=r"data\.key"):
        await client.apply(config_map(namespace, "a", key="mine"), force=False)
    assert (await client.apply(config_map(namespace, "a", key="mine")))["data"] == {"key": "mine"}


async def test_kinds_that_moved_are_written_in_the_version_there_is(
    client: ClusterClient, namespace: str
) -> None:
    metadata = {"name": "a", "namespace": namespace}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    goal = {"type": "Utilization", "averageUtilization": 50}
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": goal}}]
    job = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}
    specs: list[tuple[str, str, dict[str, Any]]] = [
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            {"maxReplicas": 2, "scaleTargetRef": target, "metrics": metrics},
        ),
        ("policy/v1", "PodDisruptionBudget", {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}}),
        ("batch/v1", "CronJob", {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job}}),
    ]
    for api_version, kind, spec in specs:
        found = await client.apply(
            {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
        )
        assert found["apiVersion"] == (await client.resource(kind)).api_version
        stored = await client.get(kind, "a", namespace)
        assert stored is not None
        assert stored["metadata"]["uid"] == found["metadata"]["uid"]
    assert (await client.resource("EndpointSlice")).api_version.startswith("discovery.k8s.io/v1")


async def test_refusals_are_said_clearly(client: ClusterClient, namespace: str) -> None:
    await client.create(config_map(namespace, "a"))
    with pytest.raises(Conflict, match="exists already"):
        await client.create(config_map(namespace, "a"))
    with pytest.raises(Invalid, match=r"\.data\.key: expected string"):
        await client.apply({**config_map(namespace, "b"), "data": {"key": 5}})
    wrong = pod(namespace, "p", "image", ["true"])
    wrong["spec"]["containers"][0]["name"] = "Not A Name"
    with pytest.raises(Invalid, match=r"spec\.containers\[0\]\.name"):
        await client.create(wrong)
    with pytest.raises(Conflict, match="UID"):
        await client.delete("ConfigMap", "a", namespace, uid="another")
    assert await client.delete("ConfigMap", "a", namespace) is True
    assert await client.delete("ConfigMap", "a", namespace) is False


async def test_a_quota_that_is_used_up_is_named(client: ClusterClient, namespace: str) -> None:
    metadata = {"name": "none", "namespace": namespace}
    spec = {"hard": {"count/secrets": "1"}}
    await client.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {**metadata, "name": "s"}}

    async def make_and_remove() -> None:
        await client.apply(secret)
        await client.delete("Secret", "s", namespace)

    with pytest.raises(Exhausted, match=r"quota none.*limited: count/secrets=1"):
        await again(make_and_remove)  # until the controller has counted


async def test_a_namespace_that_ends_takes_nothing_new(client: ClusterClient, namespace: str) -> None:
    held = config_map(namespace, "held")
    held["metadata"]["finalizers"] = ["slipway.test/held"]
    await client.apply(held)
    await client.delete("Namespace", namespace)
    with pytest.raises(Conflict, match="being deleted"):
        await again(lambda: client.apply(config_map(namespace, "late")))
    held["metadata"].pop("finalizers")
    await client.apply(held)


# Reading


async def test_many_objects_come_in_pages(client: ClusterClient, namespace: str) -> None:
    await asyncio.gather(*(client.create(config_map(namespace, f"m{n}", n=str(n))) for n in range(520)))
    before = client.requests
    found = await client.list("ConfigMap", namespace, {"test": "yes"})
    assert len({item["metadata"]["name"] for item in found.items}) == 520
    assert client.requests == before + 2
    assert (await client.list("ConfigMap", namespace, "test!=yes", "metadata.name=m1")).items == []


# Pods


async def test_a_log_is_followed_from_the_first_line_to_the_last(
    client: ClusterClient, busybox: str, namespace: str
) -> None:
    script = "for n in $(seq 1 200); do echo line $n; done; sleep 8; echo the end; exit 3"
    name = await start(client, namespace, busybox, script)
    began = time.monotonic()
    arrived: list[tuple[float, bytes]] = []
    async for line in client.logs(namespace, name, follow=True, timestamps=False):
        arrived.append((time.monotonic() - began, line))
    assert [line for _, line in arrived] == [*(b"line %d" % n for n in range(1, 201)), b"the end"]
    assert arrived[-1][0] - arrived[0][0] > 0.5, "lines came while it ran"
    tail = [line async for line in client.logs(namespace, name, tail=2, timestamps=False)]
    assert tail == [b"line 200", b"the end"]
    with pytest.raises(Invalid, match="other"):
        [line async for line in client.logs(namespace, name, "other")]
    with pytest.raises(NotFound):
        [line async for line in client.logs(namespace, "nobody", follow=True)]


async def run(
    client: ClusterClient, namespace: str, pod: str, command: list[str], stdin: bytes | None = None,
    container: str | None = None,
) -> tuple[int, dict[str, bytes]]:  # fmt: skip
    """A command's exit code, and what it wrote."""
    said = {"stdout": b"", "stderr": b""}
    async with client.run(namespace, pod, command, container, takes_input=stdin is not None) as running:

        async def feed() -> None:
            for start in range(0, len(stdin or b""), 100_001):
                await running.write((stdin or b"")[start : start + 100_001])
            await running.write(b"")

        feeding = asyncio.create_task(feed())
        async for stream, data in running.output():
            said[stream] += data
        await feeding
        return await running.code(), said


async def test_commands_run_with_their_input_and_output(
    client: ClusterClient, busybox: str, namespace: str
) -> None:
    name = await start(client, namespace, busybox, "sleep 300")
    code, said = await run(client, namespace, name, ["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (code, said) == (7, {"stdout": b"out\n", "stderr": b"err\n"})
    data = bytes(range(256)) * 8000
    code, said = await run(client, namespace, name, ["cat"], stdin=data)
    assert (code, said["stdout"] == data) == (0, True)
    assert (await run(client, namespace, name, ["wc", "-c"], stdin=b""))[1]["stdout"].strip() == b"0"
    code, said = await run(client, namespace, name, ["head", "-c", "5"], stdin=data[:1000])
    assert (code, said["stdout"]) == (0, data[:5])
    with pytest.raises(Failed, match="no such file"):
        await run(client, namespace, name, ["/nonexistent"])
    with pytest.raises(NotFound, match="no such Pod"):
        await run(client, namespace, "nobody", ["true"])
    with pytest.raises(Invalid, match="no such container"):
        await run(client, namespace, name, ["true"], container="other")


async def test_a_command_at_a_terminal(client: ClusterClient, busybox: str, namespace: str) -> None:
    name = await start(client, namespace, busybox, "sleep 300")
    said = b""
    async with client.run(namespace, name, ["sh"], takes_input=True, terminal=True) as running:
        await running.resize(123, 45)
        await running.write(
            b'until [ "$(stty size)" = "45 123" ]; do sleep 0.1; done; echo it h\'\'as; exit 3\n'
        )
        async for stream, data in running.output():
            assert stream == "stdout"
            said += data
        assert await running.code() == 3
    assert b"it has\r\n" in said


# An API server that goes away


@pytest.fixture
def api_outage(local_cluster: LocalCluster) -> Iterator[Callable[[float], threading.Timer]]:
    """Stops the API server, and starts it after some seconds. It runs in the end, whatever happens."""

    def outage(seconds: float) -> threading.Timer:
        local_cluster.stop_api()
        timer = threading.Timer(seconds, local_cluster.start_api)
        timer.start()
        return timer

    yield outage
    local_cluster.start_api()


async def insist(client: ClusterClient, obj: dict[str, Any]) -> None:
    while True:
        try:
            await client.apply(obj)
            return
        except SlipwayError:
            await asyncio.sleep(0.5)


@pytest.mark.slow
async def test_a_watch_and_a_log_go_on_over_a_restart_of_the_api_server(
    client: ClusterClient, busybox: str, namespace: str, api_outage: Callable[[float], threading.Timer]
) -> None:
    name = await start(client, namespace, busybox, "for n in $(seq 1 25); do echo line $n; sleep 1; done")
    changes: list[Change] = []

    async def follow() -> list[bytes]:
        return [line async for line in client.logs(namespace, name, follow=True, timestamps=False)]

    async def watch() -> None:
        async with aclosing(client.watch("ConfigMap", namespace, {"test": "yes"})) as stream:
            async for change in stream:
                changes.append(change)
                if change.object.get("metadata", {}).get("name") == "last":
                    return

    await client.apply(config_map(namespace, "first", n="1"))
    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        log, watching = group.create_task(follow()), group.create_task(watch())
        await asyncio.sleep(5)
        timer = await asyncio.to_thread(api_outage, 8)
        with pytest.raises(Unavailable, match="does not answer"):
            await client.get("ConfigMap", "first", namespace)
        await asyncio.to_thread(timer.join)
        await insist(client, config_map(namespace, "first", n="2"))
        await insist(client, config_map(namespace, "last"))
        await watching
        lines = await log
    assert lines == [b"line %d" % n for n in range(1, 26)]
    told = [(change.type, change.object["metadata"]["name"]) for change in changes if change.object]
    assert told == [("added", "first"), ("modified", "first"), ("added", "last")]


async def test_a_watch_with_a_version_of_long_ago_lists_anew(client: ClusterClient, namespace: str) -> None:
    """What a watch has in hand after it was cut off for long."""
    await client.apply(config_map(namespace, "a"))
    watch = Watch(client._transport, client._discovery, "ConfigMap", namespace, {"labelSelector": "test=yes"})
    watch._version = "1"
    async with asyncio.timeout(60), aclosing(watch.changes()) as stream:
        found = [await anext(stream), await anext(stream)]
    assert [change.type for change in found] == ["added", "synced"]


async def test_a_server_that_others_vouch_for_is_not_trusted(cluster: Cluster) -> None:
    endpoint = read_kubeconfig(portable(cluster.kubeconfig.read_text(), "", cluster.kubeconfig.parent))
    stranger = replace(endpoint, authority=endpoint.certificate or endpoint.authority[:0])
    with pytest.raises(Invalid, match="not one that the kubeconfig trusts"):
        await ClusterClient.connect(stranger.kubeconfig())
