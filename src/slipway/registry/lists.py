"""What there is: repositories, tags, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from slipway.oci import Digest
from slipway.registry import manifests, repositories, tagging
from slipway.state import Database
from slipway.state.tables import Manifest, ManifestReference, Project, Repository, Tag

MAX_PAGE = 10_000
_OF = "JOIN repositories ON repositories.id = repository_id WHERE repositories.name = :repository"
_TAGS = f"SELECT tags.name FROM tags {_OF} AND tags.name > :last ORDER BY tags.name LIMIT :limit"


@dataclass(frozen=True, slots=True)
class TagRecord:
    repository: str
    tag: str
    digest: Digest
    size: int
    updated: datetime


class Lists:
    """Questions that are answered from the database alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tags(self, repository: str, count: int, last: str) -> list[str]:
        """Tag names after ``last``, sorted by their bytes."""
        limit = min(count, MAX_PAGE)
        found = await self._database.look_up(_TAGS, repository=repository, last=last, limit=limit)
        if not found:
            async with self._database.read() as session:
                await repositories.require(session, repository)
        return [name for (name,) in found]

    async def catalog(self, projects: Sequence[str] | None, count: int, last: str) -> list[str]:
        """Repository names after ``last``; only those of ``projects`` unless it is ``None``."""
        query = select(Repository.name).where(Repository.name > last).order_by(Repository.name)
        if projects is not None:
            query = query.join(Project, Project.id == Repository.project_id).where(Project.name.in_(projects))
        async with self._database.read() as session:
            return list(await session.scalars(query.limit(min(count, MAX_PAGE))))

    async def tag_records(self, projects: Sequence[str]) -> list[TagRecord]:
        """Every tag of these projects with its image's size (manifest, config and layers).

        Tags that hold a signature of the image beside them are no images of their own.
        """
        total = (
            select(func.coalesce(func.sum(ManifestReference.size), 0))
            .where(ManifestReference.manifest_id == Manifest.id)
            .scalar_subquery()
        )
        query = (
            select(Repository.name, Tag.name, Manifest.digest, Manifest.size + total, Tag.updated)
            .join(Tag, Tag.repository_id == Repository.id)
            .join(Manifest, Manifest.id == Tag.manifest_id)
            .order_by(Repository.name, Tag.name)
        )
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        return [
            TagRecord(name, tag, Digest.parse(digest), int(size), updated)
            for name, tag, digest, size, updated in rows
            if name.partition("/")[0] in projects and not tagging.is_beside(tag)
        ]

    async def tags_of(self, repository: str, digest: Digest) -> list[str]:
        async with self._database.read() as session:
            owner = await repositories.require(session, repository)
            row = await manifests.by_digest(session, owner, str(digest))
            if row is None:
                return []
            return list(
                await session.scalars(select(Tag.name).where(Tag.manifest_id == row.id).order_by(Tag.name))
            )

    async def tags_by(self, repository: str, by: str) -> list[str]:
        """The tags of a repository that ``by`` put where they are."""
        async with self._database.read() as session:
            owner = await repositories.require(session, repository)
            query = select(Tag.name).where(Tag.repository_id == owner.id, Tag.pushed_by == by)
            return list(await session.scalars(query.order_by(Tag.name)))
