"""Identical work in flight is joined: across stages, and across builds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class InFlight(Generic[T]):
    """At most one ``make`` for a key at any time; the others wait for its result.

    When the one that works fails or is cancelled, the next waiter tries itself: another build's cancellation or limits
    must not become ours.
    """

    def __init__(self) -> None:
        self._running: dict[str, tuple[asyncio.Future[T], asyncio.Event | None]] = {}

    async def once(
        self, key: str, make: Callable[[], Awaitable[T]], wanted: asyncio.Event | None = None,
        *, fresh: bool = False,
    ) -> tuple[T, bool]:  # fmt: skip
        """The result, and whether it was another's. ``wanted`` is set when somebody else waits for it.

        With ``wanted`` the work may have been done long ago, and only its result be kept back: that is not ``fresh``.
        """
        while (found := self._running.get(key)) is not None:
            other, asked = found
            if asked is not None:
                asked.set()
            await asyncio.wait([other])
            if fresh and asked is not None:
                continue
            if not other.cancelled() and other.exception() is None:
                return other.result(), True
        mine: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._running[key] = mine, wanted
        try:
            result = await make()
        except BaseException as error:
            del self._running[key]
            mine.cancel()
            raise error
        del self._running[key]
        mine.set_result(result)
        return result, False
