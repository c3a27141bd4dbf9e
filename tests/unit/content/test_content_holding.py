"""A slow store keeps nobody else waiting, and no lease outlives whoever asked for it."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.content import Lease, LocalStore, holding

_SLOW = 0.3


class SlowStore(LocalStore):
    """As a bucket far away: a lease takes its time."""

    def lease(self, owner: str, ttl: timedelta) -> Lease:
        time.sleep(_SLOW)
        return super().lease(owner, ttl)


@pytest.fixture
def store(tmp_path: Path) -> SlowStore:
    return SlowStore(tmp_path)


async def _longest_pause(until: asyncio.Task[None]) -> float:
    """The longest time that the event loop did nothing else."""
    longest, last = 0.0, time.monotonic()
    while not until.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


async def test_the_loop_goes_on_while_a_lease_is_taken(store: SlowStore) -> None:
    digest = store.put(b"needed")

    async def work() -> None:
        async with holding(store, "a build", digest) as lease:
            assert set(store.leased()) == {digest}
            other = store.put(b"more")
            await asyncio.to_thread(lease.add, other)
            assert set(store.leased()) == {digest, other}

    task = asyncio.create_task(work())
    assert await _longest_pause(task) < _SLOW * 0.8
    await task
    assert list(store.leased()) == []


async def test_who_is_cancelled_while_waiting_for_a_lease_leaves_none(
    store: SlowStore, tmp_path: Path
) -> None:
    async def work() -> None:
        async with holding(store, "a build"):
            raise AssertionError("it was cancelled before")

    task = asyncio.create_task(work())
    await asyncio.sleep(_SLOW / 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline = time.monotonic() + 5
    await asyncio.sleep(_SLOW)
    while list((tmp_path / "leases").iterdir()) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert list((tmp_path / "leases").iterdir()) == []
