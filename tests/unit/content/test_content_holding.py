"""A slow store keeps nobody else waiting, and no lease outlives whoever asked for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.content import Lease, LocalStore, holding

_SECONDS = 60


class SlowStore(LocalStore):
    """As a bucket far away: a lease takes its time, until the test goes on."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked, self.go_on, self.taken = threading.Event(), threading.Event(), threading.Event()

    def lease(self, owner: str, ttl: timedelta) -> Lease:
        self.asked.set()
        assert self.go_on.wait(_SECONDS), "nobody else could do anything"
        found = super().lease(owner, ttl)
        self.taken.set()
        return found


@pytest.fixture
def store(tmp_path: Path) -> SlowStore:
    return SlowStore(tmp_path)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not done():
            await asyncio.sleep(0.005)


async def test_the_loop_goes_on_while_a_lease_is_taken(store: SlowStore) -> None:
    digest = store.put(b"needed")

    async def work() -> None:
        async with holding(store, "a build", digest) as lease:
            assert set(store.leased()) == {digest}
            other = store.put(b"more")
            await asyncio.to_thread(lease.add, other)
            assert set(store.leased()) == {digest, other}

    task = asyncio.create_task(work())
    await _until(store.asked.is_set)  # nor would anybody come to the next line
    assert not task.done()
    store.go_on.set()
    await task
    assert list(store.leased()) == []


async def test_who_is_cancelled_while_waiting_for_a_lease_leaves_none(
    store: SlowStore, tmp_path: Path
) -> None:
    async def work() -> None:
        async with holding(store, "a build"):
            raise AssertionError("it was cancelled before")

    task = asyncio.create_task(work())
    await _until(store.asked.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.go_on.set()
    await _until(store.taken.is_set)
    await _until(lambda: not list((tmp_path / "leases").iterdir()))
