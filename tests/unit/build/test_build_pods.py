"""Builds elsewhere: what is told, what is believed, and what a Pod is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.attest import Inventories
from slipway.build.attest.inventory import LayerInventory
from slipway.build.attest.packages import Package
from slipway.build.attest.provenance import Material
from slipway.build.base_images import BaseImage
from slipway.build.builders import BuilderRecord
from slipway.build.context import Context
from slipway.build.copy import HashCache
from slipway.build.dockerfile import CacheMount
from slipway.build.ignore import IgnoreFile
from slipway.build.listing import ListedContext, ListedFile, Listing, gather
from slipway.build.made import Made
from slipway.build.own_image import distributions
from slipway.build.pods import forms, manifests
from slipway.build.pods.answers import Answers
from slipway.build.pods.builder import Place
from slipway.build.pods.desk import Desk
from slipway.build.pods.forms import Job, tree_name
from slipway.build.pods.image import WORKER
from slipway.build.pods.joining import Joining
from slipway.build.pods.manifests import Site
from slipway.build.remote import GitSource, HttpSource
from slipway.build.request import Solved, SolveRequest
from slipway.build.sandbox import Limits
from slipway.build.surroundings import Surroundings
from slipway.content import LocalStore
from slipway.errors import Conflict, Failed, Invalid, NotFound, Unauthenticated
from slipway.oci import Descriptor, Digest, ImageConfig, Platform, Reference
from slipway.snapshots import LayerRef

LAYER = LayerRef(
    Digest.of(b"tar"), Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"gz"), 2)
)
MADE = Made(LAYER, 3, datetime(2026, 1, 2, 3, 4, 5, 678, UTC))
CONFIG = ImageConfig(Platform("linux", "amd64"), (LAYER.diff_id,), {"Env": ["A=ä"]})
LIMITS = Limits(2, 4 << 30, 100, 3600, 8 << 30)
PLACE = Place("b1", "shop", LIMITS, "east")
SITE = Site(
    "registry:1/library/slipway-worker@sha256:00", "https://slipway:7070", [("10.1.2.3", 7070)], "mark",
    ["0.0.0.0/0"], ["10.0.0.0/8", "fc00::/7"], b"PEM",
)  # fmt: skip


def through_json(value: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(json.dumps(value))
    return found


def test_a_job_comes_as_it_was_sent() -> None:
    request = SolveRequest(
        "b1", tree_name(0), "docker/Dockerfile", None, "final", {"A": "1"}, {"l": "v"}, Platform.parse("linux/arm64"),
        True, "shop", {"token": b"\0\xff"}, {"more": tree_name(1), "base": Reference.parse("debian:bookworm")}, True,
        frozenset({"x"}), 12, "line", "git+https://x", frozenset({"network.host"}),
    )  # fmt: skip
    daemon = BuilderRecord("d", "remote", "tcp://h:2376", "/tls")
    job = Job(request, Surroundings(b"-----BEGIN", {"http_proxy": "http://p"}), LIMITS, ("default",), daemon)
    sent = through_json(forms.job_to_json(job))
    assert forms.job_from_json(sent) == replace(job, request=replace(request, secrets={}))
    assert "token" not in json.dumps(sent), "a secret is asked for when it is needed"


def test_results_images_and_sources_come_as_they_were_sent() -> None:
    solved = Solved(
        CONFIG, (LAYER,), False, {"k": MADE, "e": Made(None, 0, MADE.created)}, (CacheMount("/c", "id"),),
        (Material("docker://x", {"sha256": "00"}),),
    )  # fmt: skip
    assert forms.solved_from_json(through_json(forms.solved_to_json(solved))) == solved
    image = BaseImage(Digest.of(b"m"), CONFIG, (LAYER,))
    assert forms.image_from_json(through_json(forms.image_to_json(image))) == image
    for source in (
        HttpSource("https://x/y", "y", "sha256:1"),
        GitSource("https://x/y.git", "main", "d", "", True),
    ):
        assert forms.source_from_json(through_json(forms.source_to_json(source))) == source
    with pytest.raises(Invalid, match="damaged"):
        forms.solved_from_json({"layers": [{}]})
    error = Failed("it broke", hint="mend it", exit_code=3)
    again = forms.error_from_json(through_json(forms.error_to_json(error)))
    assert type(again) is Failed
    assert (again.message, again.hint, again.context) == ("it broke", "mend it", {"exit_code": 3})


def listed(context: Context, files: Path, fetched: list[list[int]], **documents: bytes) -> ListedContext:
    listing = Listing(context, HashCache(), documents)

    def fetch(wanted: Sequence[ListedFile]) -> None:
        fetched.append([item.index for item in wanted])
        data = b"".join(listing.contents([item.index for item in wanted], piece=3))
        for item in wanted:
            item.path.write_bytes(data[: item.size])
            data = data[item.size :]

    return ListedContext(listing.lines(), files, fetch)


def test_a_context_by_content_is_the_context(tmp_path: Path) -> None:
    source, files = tmp_path / "source", tmp_path / "files"
    files.mkdir()
    (source / "d" / "e").mkdir(parents=True)
    for name, text in (("a", "one"), ("d/b", "one"), ("d/e/c", "three"), ("hidden", "x"), ("empty", "")):
        (source / name).write_text(text)
    os.symlink("d/e", source / "link")
    (source / os.fsdecode(b"\xff\xfe")).write_text("name")
    fetched: list[list[int]] = []
    with Context(source) as context:
        context.with_excludes(IgnoreFile.parse("hidden"))
        there = listed(context, files, fetched, Dockerfile=b"FROM x")
        pending, seen = [""], []
        while pending:
            path = pending.pop()
            mine = {item.path: item for item in there.iterdir(path)}
            real = {item.path: item for item in context.iterdir(path)}
            assert mine.keys() == real.keys()
            for name, item in mine.items():
                other = real[name]
                assert (item.kind, item.mode, item.mtime, item.size, item.target) == (
                    other.kind, other.mode, other.mtime, other.size, other.target,
                )  # fmt: skip
                seen.append(name)
                pending += [name] if item.kind == "dir" else []
        assert fetched == []
        assert there.resolve("link/c") == context.resolve("link/c") == "d/e/c"
        assert there.lstat("hidden") is None
        with there.open("Dockerfile") as document:
            assert document.read() == b"FROM x"
        there.with_excludes(lambda path, _: path == "a")
        assert there.resolve("Dockerfile") is None
        assert there.lstat("a") is None
        hashes = HashCache()
        entries = [item for item in map(there.lstat, seen) if item is not None and item.kind == "file"]
        assert [hashes.digest(item) for item in entries] == [
            hashes.digest(item) for item in map(context.lstat, (e.path for e in entries)) if item is not None
        ]
        gather(entries)
        gather(entries)
        assert len(fetched) == 1
        assert len(fetched[0]) == len({hashes.digest(item) for item in entries})
        for entry in entries:
            with there.open(entry.path) as mine_, context.open(entry.path) as real_:
                assert mine_.read() == real_.read()
        with pytest.raises(NotFound):
            there.open("d")


def test_a_file_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("long text")
    with Context(tmp_path) as context:
        listing = Listing(context, HashCache(), {})
        list(listing.lines())
        (tmp_path / "a").write_text("x")
        with pytest.raises(Invalid, match="changed"):
            list(listing.contents([0]))


async def test_tokens_admit_once_and_sessions_end() -> None:
    desk = Desk()
    ticket = desk.ticket()
    with pytest.raises(Unauthenticated):
        desk.join("another")
    seat = desk.join(ticket.token)
    assert (await ticket.seat) is seat
    with pytest.raises(Unauthenticated):
        desk.join(ticket.token)
    assert desk.seat(seat.session) is seat
    with pytest.raises(Unauthenticated):
        desk.seat(ticket.token)
    with pytest.raises(Conflict):
        _ = seat.answers
    stream = seat.messages()
    assert await anext(stream) == {"session": seat.session}
    desk.withdraw(ticket)
    assert [message async for message in stream] == []
    assert seat.is_lost
    with pytest.raises(Unauthenticated):
        desk.seat(seat.session)
    other = desk.ticket()
    desk.withdraw(other)
    with pytest.raises(Unauthenticated):
        desk.join(other.token)
    with pytest.raises(asyncio.CancelledError):
        await other.seat


def test_the_pod_has_what_it_needs_and_nothing_more() -> None:
    made = manifests.pod("name", SITE, PLACE, 3660)
    spec = made["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] == 3660
    (container,) = spec["containers"]
    assert container["securityContext"]["privileged"] is False
    assert container["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["CHOWN", "SETGID", "SETUID"],
    }
    assert container["resources"] == {
        "limits": {"cpu": "2000m", "memory": "4096Mi", "ephemeral-storage": "8192Mi"},
        "requests": {"cpu": "500m", "memory": "2048Mi", "ephemeral-storage": "1024Mi"},
    }
    assert "env" not in container
    assert "hostUsers" not in spec
    assert "affinity" not in spec
    text = json.dumps(made)
    assert "hostPath" not in text
    other = manifests.pod(
        "n", Site("i", "s", [], "m", host_users=False), Place("b", "p", LIMITS, "", frozenset("xy")), 1
    )
    assert other["spec"]["hostUsers"] is False
    assert "topologySpreadConstraints" in spec
    assert "topologySpreadConstraints" not in other["spec"], "it would weigh more than what is preferred"
    assert other["spec"]["affinity"]["nodeAffinity"].keys() == {
        "preferredDuringSchedulingIgnoredDuringExecution"
    }, "a node that is to be avoided may be the only one"
    (term,) = other["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["weight"] == 100
    wanted = [(item["operator"], item["values"]) for item in term["preference"]["matchFields"]]
    assert wanted == [("NotIn", ["x"]), ("NotIn", ["y"])]
    assert [item["values"] for item in term["preference"]["matchExpressions"]] == [["x", "y"]]
    assert manifests.secret("name", SITE, PLACE, "tok")["data"].keys() == {"token", "server", "ca.pem"}


@given(
    st.lists(st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,70}[a-z0-9])?", fullmatch=True), min_size=2, unique=True)
)
def test_each_project_builds_in_a_namespace_of_its_own(projects: list[str]) -> None:
    all_of_them = {*projects, "a.b", "a-b", "a_b", "a" * 60, "a" * 61}
    found = {manifests.namespace_of(project) for project in all_of_them}
    assert len(found) == len(all_of_them)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for name in found)
    assert not any(name.startswith("slipway-") for name in found)  # as those of apps do
    hashed = manifests.namespace_of("a_b")
    assert manifests.namespace_of(hashed.removeprefix("build-slipway-")) != hashed


def test_somebody_elses_namespace_is_not_built_in() -> None:
    made = manifests.namespace(PLACE)
    manifests.check_namespace(PLACE, made)
    manifests.check_namespace(PLACE, {"metadata": {"labels": {**made["metadata"]["labels"], "more": "x"}}})
    for labels in (
        None,
        {"slipway/role": "builds", "slipway/project": "other"},
        {"slipway/project": PLACE.project},
    ):
        with pytest.raises(Conflict, match="is not one that Slipway made") as caught:
            manifests.check_namespace(PLACE, {"metadata": {"labels": labels}})
        assert "kubectl label namespace" in caught.value.hint


async def test_a_worker_describes_no_layer_of_somebody_elses(tmp_path: Path) -> None:
    """Neither one that it was told of, nor one that it sends although it is there: documents are signed by it."""
    blobs = LocalStore(tmp_path / "content")
    inventories = Inventories(tmp_path / "inventories", blobs)
    known, new = blobs.put(b"known to all"), Digest.of(b"new")
    solver = SimpleNamespace(blobs=blobs, inventories=inventories, cache=SimpleNamespace(put=_nothing))
    with blobs.lease("build", timedelta(minutes=1)) as held:
        request = SolveRequest("b", Path("/"), project="p")
        answers = Answers(request, solver, Any, Any, held, Any, AsyncExitStack(), Joining())  # type: ignore[arg-type]
        for digest, data in ((known, b"known to all"), (new, b"new")):
            await answers.receive(digest, _pieces(data))
            layer = LayerRef(digest, Descriptor(LAYER.blob.media_type, digest, len(data)))
            made = forms.made_to_json(Made(layer, len(data), MADE.created))
            said = LayerInventory(records={"var/lib/dpkg/status": [Package("deb", "lie", "1")]})
            await answers.ask(
                "cache.put", {"key": "k", "made": made, "description": "", "inventory": said.to_json()}
            )
    kept = [path.name for path in (tmp_path / "inventories").rglob("*") if path.is_file()]
    assert len(kept) == 1
    assert new.hex in kept[0]


async def _nothing(*_values: object) -> None:
    """Where nothing is kept."""


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


def test_the_workers_image_has_all_that_the_worker_imports() -> None:
    script = (
        "import sys; before = set(sys.modules); import slipway.build.pod.work; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    owners = packages_distributions()
    needed = {owner.lower() for name in said.split() for owner in owners.get(name, ())} - {"slipway"}
    assert needed <= {item.name.lower() for item in distributions(WORKER.needed)}


def test_what_builds_may_reach() -> None:
    nothing, policy = manifests.policies(SITE, PLACE)
    assert manifests.namespace(PLACE)["metadata"]["name"] == policy["metadata"]["namespace"]
    assert (nothing["spec"]["podSelector"], nothing["spec"]["egress"]) == ({}, [])
    spec = policy["spec"]
    assert spec["ingress"] == []
    # Another server's rules in the same namespace are others, for other Pods.
    assert spec["podSelector"] == {"matchLabels": {manifests.SERVER: SITE.mark}}
    _, other = manifests.policies(replace(SITE, mark="other"), PLACE)
    assert other["metadata"]["name"] != policy["metadata"]["name"]
    dns, server, outside = spec["egress"]
    assert {item["port"] for item in dns["ports"]} == {53}
    assert server["to"] == [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    assert outside["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]
