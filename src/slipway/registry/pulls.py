"""When tags were last pulled: noted in memory, written together once in a while, so that a pull writes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime

from sqlalchemy import bindparam, select, update

from slipway.base.clock import now
from slipway.errors import SlipwayError
from slipway.state import Database
from slipway.state.tables import Repository, Tag

log = logging.getLogger(__name__)
_MOST = 100_000
_EVERY_SECONDS = 60


class Pulls:
    """The times of the last minute are lost when the server is killed; rules count in days."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[tuple[str, str], datetime] = {}

    def note(self, repository: str, tag: str) -> None:
        if len(self._noted) < _MOST:
            self._noted[repository, tag] = now()

    async def run_forever(self) -> None:
        try:
            while True:
                await asyncio.sleep(_EVERY_SECONDS)
                try:
                    await self.write()
                except SlipwayError as error:
                    log.warning("when tags were pulled could not be written: %s", error.message)
        finally:
            with contextlib.suppress(
                SlipwayError
            ):  # the server ends: what cannot be written now is not worth a wait
                await asyncio.shield(self.write())

    async def write(self) -> None:
        """Raises ``Unavailable``; what was noted is noted no more then."""
        noted, self._noted = self._noted, {}
        if not noted:
            return
        rows = [{"r": repository, "t": tag, "at": moment} for (repository, tag), moment in noted.items()]
        owner = select(Repository.id).where(Repository.name == bindparam("r")).scalar_subquery()
        statement = update(Tag).where(Tag.repository_id == owner, Tag.name == bindparam("t"))
        async with self._database.session() as session:
            connection = await session.connection()
            await connection.execute(statement.values(pulled=bindparam("at")), rows)
