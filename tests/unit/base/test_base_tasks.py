"""Work to its end, and the first of several errors."""

from __future__ import annotations

import asyncio

import pytest

from slipway.base.tasks import first_error, to_the_end


async def test_work_goes_to_its_end_and_the_cancellation_follows() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    through: list[str] = []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        through.append("work")

    task = asyncio.create_task(to_the_end(work()))
    await begun.wait()
    for _ in range(2):  # asked twice, it does not end sooner
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert through == ["work"]


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await to_the_end(work())


async def test_the_first_error_is_no_cancellation_that_follows_from_it() -> None:
    cancelled, error = asyncio.CancelledError(), ValueError("no")
    nested = BaseExceptionGroup("inner", [asyncio.CancelledError(), error])
    assert first_error(BaseExceptionGroup("outer", [cancelled, nested])) is error
    assert first_error(BaseExceptionGroup("outer", [cancelled])) is cancelled
