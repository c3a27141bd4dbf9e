"""Callers' SSH agents over the connection of their build."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from slipway.build.forwarding import Forwarding
from slipway.errors import Invalid, NotFound, Unavailable

LIST = bytes([11])


async def test_what_is_asked_and_answered_and_by_whom() -> None:
    forwarding, told = Forwarding(), list[dict[str, Any]]()
    with forwarding.agents("ann", ["default"], lambda event: told.append(dict(event))) as agents:
        assert list(agents) == ["default"]
        with pytest.raises(Invalid, match="nothing else"):
            await agents["default"].ask(bytes([19]))
        asked = asyncio.create_task(agents["default"].ask(LIST))
        while not told:
            await asyncio.sleep(0)
        (event,) = told
        assert (event["event"], event["agent"]) == ("ssh.ask", "default")
        assert base64.b64decode(event["message"]) == LIST
        session, number = event["session"], event["number"]
        for owner, name, which in (("bob", session, number), ("ann", "x", number), ("ann", session, 99)):
            with pytest.raises(NotFound):
                forwarding.answer(owner, name, which, b"no")
        with pytest.raises(Invalid, match="at most"):
            forwarding.answer("ann", session, number, b"x" * (300 * 1024))
        forwarding.answer("ann", session, number, b"yes")
        assert await asked == b"yes"
        with pytest.raises(NotFound):
            forwarding.answer("ann", session, number, b"again")
        late = asyncio.create_task(agents["default"].ask(LIST))
        while len(told) < 2:
            await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="is over"):
        await late
    with pytest.raises(Unavailable, match="is over"):
        await agents["default"].ask(LIST)
    with pytest.raises(NotFound):
        forwarding.answer("ann", session, 2, b"late")


async def test_only_a_few_are_asked_at_a_time() -> None:
    forwarding, told = Forwarding(), list[dict[str, Any]]()
    with forwarding.agents("ann", ["default"], lambda event: told.append(dict(event))) as agents:
        tasks = [asyncio.create_task(agents["default"].ask(LIST)) for _ in range(20)]
        for done in range(20):
            while len(told) <= done:
                await asyncio.sleep(0)
            assert len(told) <= done + 8
            forwarding.answer("ann", told[done]["session"], told[done]["number"], b"yes")
        assert await asyncio.gather(*tasks) == [b"yes"] * 20
