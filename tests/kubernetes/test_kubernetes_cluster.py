"""The test cluster is what later tests take it for."""

from __future__ import annotations

from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.kubernetes.objects import pod, until, web
from slipway.testing.kubernetes.serving import asked
from slipway.testing.platform import Running


def _phase(cluster: Cluster, namespace: str, name: str) -> str:
    found: str = cluster.get("pod", name, f"--namespace={namespace}")["status"]["phase"]
    return found


def _run(cluster: Cluster, namespace: str, image: str, script: str) -> str:
    """What a shell script in a Pod says."""
    cluster.apply(pod(namespace, "once", image, ["sh", "-c", script]))
    until(lambda: _phase(cluster, namespace, "once") in ("Succeeded", "Failed"), "the Pod ends")
    said = cluster.kubectl("logs", "once", f"--namespace={namespace}")
    assert _phase(cluster, namespace, "once") == "Succeeded", said
    cluster.kubectl("delete", "pod", "once", f"--namespace={namespace}", "--wait=false")
    return said


def _serve(cluster: Cluster, namespace: str, image: str, replicas: int) -> str:
    """The address of a Service with so many Pods."""
    cluster.apply(*web(namespace, "web", image, replicas))
    cluster.kubectl(
        "rollout", "status", "deployment/web", f"--namespace={namespace}", "--timeout=120s", seconds=130
    )
    address: str = cluster.get("service", "web", f"--namespace={namespace}")["spec"]["clusterIP"]
    return address


def _ask(cluster: LocalCluster, node: str, address: str) -> str:
    """The name of the Pod that answers a node, or nothing."""
    return asked(cluster, node, f"{address}:80").strip()


def _wait_for_answer(cluster: LocalCluster, node: str, address: str) -> None:
    """A new Service is known to each node a moment later."""
    until(lambda: bool(_ask(cluster, node, address)), f"{node} knows the Service")


def _pods(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The nodes of the ready Pods that are to stay, by name."""
    return {
        one["metadata"]["name"]: one["spec"]["nodeName"]
        for one in cluster.get("pods", f"--namespace={namespace}", "--selector=app=web")
        if "deletionTimestamp" not in one["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions", ()))
    }


def test_service_of_three_nodes_answers_on_every_node(
    local_cluster: LocalCluster, namespace: str, busybox: str
) -> None:
    """Pods start on all nodes, and each node's rules lead to all of them."""
    address = _serve(local_cluster, namespace, busybox, 3)
    pods = _pods(local_cluster, namespace)
    assert set(pods.values()) == {"node-1", "node-2", "node-3"}
    for node in local_cluster.nodes[:3]:
        _wait_for_answer(local_cluster, node, address)
        assert {_ask(local_cluster, node, address) for _ in range(40)} == set(pods), node


def test_services_have_names(cluster: Cluster, namespace: str, busybox: str) -> None:
    """In a Pod the Service is found by its short and its long name, and what does not exist is not."""
    _serve(cluster, namespace, busybox, 1)
    script = f"wget -qO- http://web/ && wget -qO- http://web.{namespace}/ && ! wget -qO- http://nothing/ 2>&1"
    said = _run(cluster, namespace, busybox, script)
    (name,) = _pods(cluster, namespace)
    assert said.split()[:2] == [name, name]
    assert "bad address" in said


def test_volume_outlives_its_pod(cluster: Cluster, namespace: str, busybox: str) -> None:
    """A claim is met by the default storage class, for a user who is not root, and keeps what is written."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": namespace},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    )
    for _ in range(2):
        one = pod(namespace, "writer", busybox, ["sh", "-c", "echo line >> /data/lines; wc -l < /data/lines"])
        one["spec"]["securityContext"] = {"runAsUser": 1000, "fsGroup": 1000}
        one["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
        one["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
        cluster.apply(one)
        until(lambda: _phase(cluster, namespace, "writer") == "Succeeded", "the writer ends")
        said = cluster.kubectl("logs", "writer", f"--namespace={namespace}")
        cluster.kubectl("delete", "pod", "writer", f"--namespace={namespace}")
    assert said.strip() == "2"


def test_pod_pulls_from_a_slipway_registry(cluster: Cluster, namespace: str, platform: Running) -> None:
    said = _run(cluster, namespace, f"{platform.registry}/library/debian:bookworm", "cat /etc/debian_version")
    assert said.startswith("12.")
    (event,) = (
        one
        for one in cluster.get("events", f"--namespace={namespace}")
        if one["reason"] == "Pulled" and one["involvedObject"]["name"] == "once"
    )
    assert "Successfully pulled" in event["message"]


def test_killed_node_is_noticed_and_its_pods_come_back_elsewhere(
    local_cluster: LocalCluster, namespace: str, busybox: str
) -> None:
    _serve(local_cluster, namespace, busybox, 3)
    local_cluster.kill_node("node-3")
    try:
        assert until(lambda: "node-3" not in local_cluster.ready_nodes(), "node-3 is gone", 30) > 2

        def elsewhere() -> bool:
            nodes = _pods(local_cluster, namespace).values()
            return len(nodes) == 3 and "node-3" not in nodes

        until(elsewhere, "three Pods on the other nodes")
    finally:
        local_cluster.start_node("node-3")
    until(lambda: "node-3" in local_cluster.ready_nodes(), "node-3 is back")
    # What the node had when it lost its power is not served again, and it takes Pods as before.
    local_cluster.kubectl("scale", "deployment/web", "--replicas=6", f"--namespace={namespace}")
    until(lambda: len(_pods(local_cluster, namespace)) == 6, "six Pods")
    assert "node-3" in _pods(local_cluster, namespace).values()


def test_api_server_stopped_and_started(local_cluster: LocalCluster, namespace: str, busybox: str) -> None:
    """Without it Services go on answering; back again, it knows everything."""
    address = _serve(local_cluster, namespace, busybox, 1)
    before = _pods(local_cluster, namespace)
    _wait_for_answer(local_cluster, "node-1", address)
    local_cluster.stop_api()
    try:
        assert not local_cluster.answers()
        (name,) = before
        assert _ask(local_cluster, "node-1", address) == name
    finally:
        local_cluster.start_api()
    assert _pods(local_cluster, namespace) == before
