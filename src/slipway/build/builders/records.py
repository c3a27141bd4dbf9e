"""Which builders there are, and who may use them: the database's side, which a worker has not."""

from __future__ import annotations

from sqlalchemy import select

from slipway.build.builders.record import KUBERNETES, BuilderRecord
from slipway.errors import Conflict, Denied, NotFound
from slipway.state import Database
from slipway.state.tables import Builder as Row


class Builders:
    """The builders in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: BuilderRecord) -> None:
        """Raises ``Conflict`` for a name that is taken."""
        record.checked()
        async with self._database.session() as session:
            if await session.get(Row, record.name) is not None:
                raise Conflict(f"there is a builder {record.name!r} already", hint="remove it first")
            session.add(
                Row(
                    name=record.name, kind=record.kind, address=record.address, tls=record.tls, image=record.image,
                    projects=list(record.projects),
                )
            )  # fmt: skip

    async def all(self) -> list[BuilderRecord]:
        async with self._database.read() as session:
            return [_record(row) for row in await session.scalars(select(Row).order_by(Row.name))]

    async def remove(self, name: str) -> None:
        async with self._database.session() as session:
            row = await session.get(Row, name)
            if row is None:
                raise NotFound(f"there is no builder {name!r}")
            await session.delete(row)

    async def require(self, name: str, project: str) -> BuilderRecord:
        """The builder, if the project may use it. Raises ``NotFound`` and ``Denied``.

        ``kubernetes`` needs no record: it is the project's own cluster.
        """
        async with self._database.read() as session:
            row = await session.get(Row, name)
        if row is None and name == KUBERNETES:
            return BuilderRecord(name, KUBERNETES, "")
        if row is None:
            raise NotFound(f"there is no builder {name!r}", hint="`slipway builder ls` lists them")
        found = _record(row)
        if found.projects and project not in found.projects:
            raise Denied(f"the project {project!r} may not use the builder {name!r}")
        return found


def _record(row: Row) -> BuilderRecord:
    return BuilderRecord(row.name, row.kind, row.address, row.tls, row.image, tuple(row.projects))
