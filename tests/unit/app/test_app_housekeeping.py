"""Housekeeping on a bad day."""

from __future__ import annotations

import asyncio

import pytest

from slipway.app.housekeeping import Housekeeping
from slipway.errors import Exhausted, SlipwayError, Unavailable


@pytest.mark.parametrize("trouble", [Unavailable("no answer"), Exhausted("the disk is full")])
async def test_it_goes_on_after_trouble(monkeypatch: pytest.MonkeyPatch, trouble: SlipwayError) -> None:
    again = asyncio.Event()
    rounds = 0

    async def round_(_self: Housekeeping) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise trouble
        again.set()

    monkeypatch.setattr("slipway.app.housekeeping._EVERY_SECONDS", 0)
    monkeypatch.setattr(Housekeeping, "_round", round_)
    keeping = asyncio.create_task(Housekeeping.run_forever(Housekeeping.__new__(Housekeeping)))
    waiting = asyncio.create_task(again.wait())
    await asyncio.wait((keeping, waiting), return_when=asyncio.FIRST_COMPLETED)
    assert again.is_set()
    for task in (keeping, waiting):
        task.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)
