"""What is asked of a cluster that is away: waited for, said once, and nothing made twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slipway.build.pods import patience
from slipway.build.pods.patience import created, patiently, removed
from slipway.errors import Conflict, Exhausted, Unavailable

ITEM = {"kind": "Secret", "metadata": {"name": "a", "namespace": "builds"}}


class Cluster:
    """Raises what it is told, in order; then it answers. ``there`` is what it has."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.there: list[str] = []

    async def create(self, item: dict[str, Any]) -> None:
        if self.errors:
            error = self.errors.pop(0)
            if isinstance(error, Unavailable) and error.context.get("made"):
                self.there.append(item["metadata"]["name"])
            raise error
        if item["metadata"]["name"] in self.there:
            raise Conflict("exists already")
        self.there.append(item["metadata"]["name"])

    async def get(self, _kind: str, name: str, _namespace: str) -> dict[str, Any] | None:
        return {} if name in self.there else None

    async def delete(self, kind: str, name: str, _namespace: str) -> bool:
        if self.errors:
            raise self.errors.pop(0)
        self.there.append(f"{kind} {name} gone")
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE", 0.0)


async def make(cluster: Cluster) -> list[str]:
    said: list[str] = []
    await created(cluster, ITEM, said.append)  # type: ignore[arg-type]
    return said


async def test_it_is_waited_for_and_said_once() -> None:
    cluster = Cluster(Unavailable("no answer"), Unavailable("no answer"))
    assert await make(cluster) == ["waiting for the cluster: no answer", "the cluster answers again"]
    assert cluster.there == ["a"]


async def test_what_was_made_unheard_is_not_made_again() -> None:
    assert len(await make(Cluster(Unavailable("the answer was lost", made=True)))) == 2
    with pytest.raises(Conflict, match="being deleted"):
        await make(Cluster(Unavailable("no answer"), Conflict("the namespace is being deleted")))
    with pytest.raises(Conflict, match="another"):
        await make(Cluster(Conflict("another has it")))


async def test_what_it_refuses_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exhausted):
        await make(Cluster(Exhausted("quota")))
    monkeypatch.setattr(patience, "AWAY_SECONDS", -1.0)

    async def away() -> None:
        raise Unavailable("no answer")

    with pytest.raises(Unavailable):
        await patiently(away, lambda _: None)


async def test_removing_goes_on_until_it_is_heard() -> None:
    cluster = Cluster(*(Unavailable("no answer") for _ in range(5)))
    async with asyncio.timeout(30):
        await removed(cluster, "builds", "a")  # type: ignore[arg-type]
    assert sorted(cluster.there) == ["Pod a gone", "Secret a gone"]
