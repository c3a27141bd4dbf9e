"""Several at once: in order, never more than were allowed, and one of a kind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from slipway.distribution.together import Turns, several


async def test_results_come_in_order_and_no_more_than_allowed_are_under_way() -> None:
    under_way = most = 0

    async def work(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001 * (number * 7 % 5))
        under_way -= 1
        return number * number

    found = [item async for item in several(range(40), work, 6)]
    assert found == [(number, number * number) for number in range(40)]
    assert (most, under_way) == (6, 0)


async def test_an_error_ends_the_rest_and_what_was_told_is_done() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        if number == 3:
            raise ValueError("three")
        try:
            await asyncio.sleep(0 if number < 3 else 60)
        except asyncio.CancelledError:
            ended.append(number)
            raise

    told: list[int] = []

    async def all_of_it() -> None:
        async with aclosing(several(range(100), work, 3)) as found:
            async for number, _ in found:
                told.append(number)

    with pytest.raises(ValueError, match="three"):
        await all_of_it()
    assert told == [0, 1, 2]
    assert ended == [4, 5]


async def test_who_wants_the_same_waits_and_others_do_not() -> None:
    turns, order = Turns(), []

    async def take(key: str, name: str) -> None:
        async with turns.of(key):
            order.append(f"{name} in")
            await asyncio.sleep(0.01)
            order.append(f"{name} out")

    await asyncio.gather(take("a", "1"), take("a", "2"), take("b", "3"))
    assert order.index("1 out") < order.index("2 in")
    assert order.index("3 in") < order.index("1 out")
    assert not turns._locks
    assert not turns._wanted
