"""When a tag was moved, in an order that all sites agree on: a hybrid logical clock.

A stamp is the time in milliseconds, shifted by 16 bits, and a counter below it. It never goes back, is never given
twice by one site, and is above every stamp of another site that was witnessed before: what was done knowing of a
change is later than that change, whatever the machines' clocks say. Two changes that knew nothing of each other are
ordered by stamp, then by the site's name, everywhere alike.
"""

from __future__ import annotations

import secrets
import time

from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.state.tables import Clock

_ROW = 1


async def tick(session: AsyncSession) -> tuple[int, str]:
    """A new stamp, and the site that gives it. Writers wait for each other here: sequences are committed in order."""
    present = int(time.time() * 1000) << 16
    later = case((Clock.value >= present, Clock.value + 1), else_=present)
    return await _moved(session, later, present)


async def witness(session: AsyncSession, stamp: int) -> None:
    """Nothing that is done here from now on is earlier than ``stamp``."""
    await _moved(session, case((Clock.value >= stamp, Clock.value), else_=stamp), stamp)


async def _moved(session: AsyncSession, value: object, first: int) -> tuple[int, str]:
    statement = update(Clock).where(Clock.id == _ROW).values(value=value)
    found = (await session.execute(statement.returning(Clock.value, Clock.site))).first()
    if found is not None:
        return found[0], found[1]
    row = Clock(id=_ROW, site=secrets.token_hex(8), value=first)
    session.add(row)
    await session.flush()
    return row.value, row.site


async def site(session: AsyncSession) -> str:
    """This registry's name among its peers; made once, random. Empty before the first change."""
    return await session.scalar(select(Clock.site).where(Clock.id == _ROW)) or ""


def seconds(stamp: int) -> float:
    """The time of a stamp, in seconds since 1970."""
    return (stamp >> 16) / 1000
