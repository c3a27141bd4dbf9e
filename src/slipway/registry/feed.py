"""What changed here since some sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal, select

from slipway.registry import clock
from slipway.registry.moves import Moved, moved_from, to_json
from slipway.registry.tagging import Move
from slipway.state import Database
from slipway.state.tables import DeletedTag, Manifest, Project, Repository, Tag


@dataclass(frozen=True, slots=True)
class Change:
    """Where a tag points since a move (``digest`` empty: nowhere any more). ``sequence`` is of the site that tells."""

    repository: str
    tag: str
    digest: str
    sequence: int
    moved: Moved

    def to_json(self) -> dict[str, Any]:
        return {
            "repository": self.repository, "tag": self.tag, "digest": self.digest, "sequence": self.sequence,
            "by": self.moved.by, **to_json(self.moved.move),
        }  # fmt: skip

    @classmethod
    def parse(cls, value: Any) -> Change:
        """Raises ``Invalid``, ``KeyError`` and ``TypeError`` for what another site should not have sent."""
        moved = moved_from(value)
        return cls(
            str(value["repository"]), str(value["tag"]), str(value["digest"]), int(value["sequence"]), moved
        )


_MOVED = (
    select(
        Repository.name, Tag.name, Manifest.digest, Tag.sequence, Tag.stamp, Tag.origin, Tag.versions, Tag.pushed_by
    )
    .join(Tag, Tag.repository_id == Repository.id)
    .join(Manifest, Manifest.id == Tag.manifest_id)
)  # fmt: skip
_REMOVED = select(
    Repository.name, DeletedTag.name, literal(""), DeletedTag.sequence, DeletedTag.stamp, DeletedTag.origin,
    DeletedTag.versions, DeletedTag.deleted_by,
).join(DeletedTag, DeletedTag.repository_id == Repository.id)  # fmt: skip


def _change(row: Any) -> Change:
    repository, tag, digest, sequence, stamp, origin, versions, by = row
    return Change(repository, tag, digest, sequence, Moved(Move(stamp, origin, versions), by))


class Feed:
    """Each tag appears with its latest move only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def site(self) -> str:
        async with self._database.read() as session:
            return await clock.site(session)

    async def head(self) -> int:
        """The sequence of the latest change; 0 when there was none."""
        async with self._database.read() as session:
            found = [await session.scalar(select(func.max(table.sequence))) for table in (Tag, DeletedTag)]
        return max(item or 0 for item in found)

    async def of(self, repository: str, tag: str) -> Change | None:
        """Where one tag stands; ``None`` for one that never was."""
        async with self._database.read() as session:
            for query in (_MOVED, _REMOVED):
                name = query.selected_columns[1]
                row = (await session.execute(query.where(Repository.name == repository, name == tag))).first()
                if row is not None:
                    return _change(row)
        return None

    async def since(self, cursor: int, count: int, projects: Sequence[str] | None = None) -> list[Change]:
        """At most ``count`` changes after ``cursor``, in the order they were made; ``projects`` limits whose."""
        rows: list[Any] = []
        async with self._database.read() as session:
            for query, sequence in ((_MOVED, Tag.sequence), (_REMOVED, DeletedTag.sequence)):
                query = query.where(sequence > cursor).order_by(sequence)
                if projects is not None:
                    query = query.join(Project, Project.id == Repository.project_id).where(
                        Project.name.in_(projects)
                    )
                rows += (await session.execute(query.limit(count))).all()
        found = [_change(row) for row in rows]
        return sorted(found, key=lambda change: change.sequence)[:count]
