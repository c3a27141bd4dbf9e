"""Whether builds' Pods ask a cluster for user namespaces of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slipway.app import pods
from slipway.app.pods import BuildClusters, node_has_user_namespaces
from slipway.errors import Denied, Unavailable


def node(*handlers: tuple[str, bool], cordoned: bool = False) -> dict[str, Any]:
    found = [
        {"name": name, "features": {"recursiveReadOnlyMounts": True, "userNamespaces": has}}
        for name, has in handlers
    ]
    return {"spec": {"unschedulable": True} if cordoned else {}, "status": {"runtimeHandlers": found}}


class Cluster:
    def __init__(self, version: str, *nodes: dict[str, Any]) -> None:
        self.answers = version
        self.nodes = list(nodes)
        self.denied = False
        self.away = False
        self.asked = 0

    async def version(self) -> str:
        self.asked += 1
        if self.away:
            raise Unavailable("no answer")
        return self.answers

    async def list(self, *_words: object) -> SimpleNamespace:
        if self.denied:
            raise Denied("nodes are forbidden")
        return SimpleNamespace(items=self.nodes)


def of(cluster: Cluster) -> BuildClusters:
    async def client(_name: str) -> Cluster:
        return cluster

    return BuildClusters(Any, SimpleNamespace(client=client), Any, "mark")  # type: ignore[arg-type]


ABLE, UNABLE = node(("", True), ("runc", True)), node(("", False), ("kata", True))


@pytest.mark.parametrize(
    ("version", "nodes", "has"),
    [
        ("v1.33.1", [ABLE, ABLE], True),
        ("v1.33.1", [ABLE, UNABLE], False),
        ("v1.33.1", [ABLE, node(("", False), cordoned=True)], True),
        ("v1.33.1", [ABLE, {"status": {}}], False),
        ("v1.33.1", [], False),
        ("v1.32.9", [ABLE], False),
        ("v1.20.2", [{"status": {}}], False),
    ],
)
async def test_all_nodes_that_take_pods_must_have_them(
    version: str, nodes: list[dict[str, Any]], has: bool
) -> None:
    assert await of(Cluster(version, *nodes))._has_user_namespaces("east") is has


def test_the_default_handler_is_what_counts() -> None:
    assert node_has_user_namespaces(ABLE)
    assert not node_has_user_namespaces(UNABLE)
    assert not node_has_user_namespaces({"status": {"runtimeHandlers": [{"name": "", "features": None}]}})


async def test_the_answer_is_good_for_some_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pods, "time", SimpleNamespace(monotonic=lambda: now))
    cluster = Cluster("v1.33.1", ABLE)
    found = of(cluster)
    now = 1.0
    assert await found._has_user_namespaces("east")
    cluster.nodes.append(UNABLE)
    now = 300.0
    assert await found._has_user_namespaces("east")
    assert cluster.asked == 1
    now = 302.0
    cluster.away = True
    assert await found._has_user_namespaces("east"), "what was known last, while nobody answers"
    with pytest.raises(Unavailable):
        await of(cluster)._has_user_namespaces("east")
    cluster.away = False
    assert not await found._has_user_namespaces("east")
    now = 700.0
    cluster.denied = True
    assert not await found._has_user_namespaces("east"), "who may not see nodes does without"
