"""Work that one of several servers does for all of them: replication, webhooks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from slipway.errors import SlipwayError
from slipway.state import Database

log = logging.getLogger(__name__)
_LEADER = 7_064_155_713  # the lock of the one who leads
_TERM_SECONDS = 600.0
_PAUSE_SECONDS = 5.0


async def lead(database: Database, *works: Callable[[], Awaitable[None]]) -> None:
    """Run ``works``, which end only by failing, on whichever server has the database's lock.

    The lock goes with its connection: when that breaks, another server may lead before this one has noticed, for the
    rest of a term of ten minutes. What is led must bear being done twice.
    """
    while True:
        try:
            async with database.alone(_LEADER) as mine:
                if mine:
                    await _term(works, None if database.is_local else _TERM_SECONDS)
        except SlipwayError as error:
            log.warning("nobody can be chosen to lead: %s", error.message)
        except Exception:  # of one part: it is begun again, here or at another server
            log.exception("what is led has failed")
        await asyncio.sleep(_PAUSE_SECONDS)


async def _term(works: tuple[Callable[[], Awaitable[None]], ...], seconds: float | None) -> None:
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
