"""Which of several API servers leads: a row of the database that has to be renewed.

Work that lives in one process (builds, deliveries, reconciliation, housekeeping) is the leader's; the others hand such
requests on to the address that the row says. Times are the database's, so servers' clocks may differ.

A leader that could not renew for two thirds of its time stops by itself, before another can take over. What
that one does nevertheless to an app it loses to the app's own record (``slipway.engines.kubernetes.record``).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.errors import Conflict, SlipwayError, Unavailable
from slipway.state import Database, add_once
from slipway.state.tables import Lease

log = logging.getLogger(__name__)
LEASE_SECONDS = 15.0
_RENEW, _SURE = 1 / 5, 2 / 3  # of the lease's time
_LOOK_SECONDS = 1.0
_NAME = "platform"


class Lost(Unavailable):
    """This server led, and cannot be sure any more that no other does."""


@dataclass(slots=True)
class Leadership:
    """``me`` tells this server from others; one that restarts under the same name goes on at once. ``address``: the URL
    by which the others reach it."""

    database: Database
    me: str
    address: str
    lease_seconds: float = LEASE_SECONDS
    leads: bool = False
    _seen: tuple[float, str] = field(default=(-LEASE_SECONDS, ""))

    async def leader(self) -> str:
        """The leader's address; empty while there is none, or none but this server, which is not ready yet or not any
        more. Asked of the database at most once a second."""
        if self.leads:
            return self.address
        time = asyncio.get_running_loop().time()
        if time - self._seen[0] > _LOOK_SECONDS:
            async with self.database.read() as session:
                row = await session.get(Lease, _NAME)
                valid = row is not None and row.holder != self.me and row.until > await _now(session)
                found = row.address if row is not None and valid else ""
            self._seen = (time, found)
        return self._seen[1]

    def forget(self) -> None:
        """The leader did not answer: the next question is asked of the database."""
        self._seen = (-LEASE_SECONDS, "")

    async def try_once(self) -> bool:
        """Take or renew the lease; whether it is ours now. Raises ``Unavailable``."""
        async with self.database.session() as session:
            moment = await _now(session)
            until = moment + timedelta(seconds=self.lease_seconds)
            first = {"name": _NAME, "holder": self.me, "address": self.address, "until": until}
            if await add_once(session, Lease, **first):
                return True
            row = await session.get(Lease, _NAME, with_for_update=True)
            if row is None or (row.holder != self.me and row.until > moment):
                return False
            row.holder, row.address, row.until = self.me, self.address, until
        return True

    async def won(self, unless: asyncio.Event, patience: float = math.inf) -> bool:
        """Wait until the lease is ours; ``False`` when ``unless`` is set before.

        Raises ``Conflict`` when another has it for more than ``patience`` seconds.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while not unless.is_set():
            try:
                if await self.try_once():
                    return True
            except Unavailable as error:
                log.warning("nobody can be chosen to lead: %s", error.message)
            if loop.time() > end:
                raise Conflict(
                    f"another server leads this platform: {await self.leader()}",
                    hint="of whole servers and API servers over one database one works at a time",
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await unless.wait()
        return False

    @asynccontextmanager
    async def kept(self, *, when_in_doubt: bool = False) -> AsyncIterator[asyncio.Task[None]]:
        """Keep the lease, which was ``won``, for the length of the block, and give it back. ``leads`` is for the caller
        to set, when what a killed leader left is in order.

        The task that comes with it ends with ``Lost`` only: what the leader does has to end at once then. With
        ``when_in_doubt`` it does not while the database is away, but when another server leads.
        """
        keeping = asyncio.create_task(self._keep(when_in_doubt))
        try:
            yield keeping
        finally:
            self.leads = False
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            with suppress(SlipwayError):
                await asyncio.shield(self._give_up())

    async def _keep(self, when_in_doubt: bool) -> None:
        loop = asyncio.get_running_loop()
        for_sure = self.lease_seconds * _SURE
        renewed = loop.time()
        while True:
            await asyncio.sleep(self.lease_seconds * _RENEW)
            asked = loop.time()
            try:
                async with asyncio.timeout_at(max(renewed + for_sure, asked + self.lease_seconds * _RENEW)):
                    mine = await self.try_once()
            except (Unavailable, TimeoutError) as error:
                if loop.time() - renewed > for_sure and not when_in_doubt:
                    raise Lost(f"that this server leads could not be renewed: {error}") from error
                continue
            if not mine:
                raise Lost("another server leads now")
            renewed = asked

    async def _give_up(self) -> None:
        """Another need not wait."""
        async with self.database.session() as session:
            await session.execute(delete(Lease).where(Lease.name == _NAME, Lease.holder == self.me))


def end_at_once(lost: asyncio.Task[None]) -> None:
    """Another server may lead by now. What goes on here is as if the power had failed."""
    if not lost.cancelled():
        log.error("this server ends and can be started again: %s", lost.exception())
        os._exit(70)


async def _now(session: AsyncSession) -> datetime:
    """By the clock that all servers have in common."""
    if session.get_bind().dialect.name != "postgresql":
        return now()
    found: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return found
