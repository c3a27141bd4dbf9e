"""What there is: repositories, tags, images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, select, true

from slipway.errors import Invalid
from slipway.oci import Digest
from slipway.registry import manifests, repositories, tagging
from slipway.state import Database
from slipway.state.tables import Manifest, ManifestReference, Project, Repository, Tag

MAX_PAGE = 10_000
_MOST_WORDS, _LONGEST = 10, 200
_OF = "JOIN repositories ON repositories.id = repository_id WHERE repositories.name = :repository"
_TAGS = f"SELECT tags.name FROM tags {_OF} AND tags.name > :last ORDER BY tags.name LIMIT :limit"


@dataclass(frozen=True, slots=True)
class TagRecord:
    repository: str
    tag: str
    digest: Digest
    size: int
    updated: datetime


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """``tags`` is how many there are; ``updated`` is when one was last moved."""

    repository: str
    description: str
    tags: int
    updated: datetime | None


def parse_words(text: str) -> list[str]:
    """What to search for, in lower case. Raises ``Invalid`` for too much of it."""
    words = list(dict.fromkeys(text.lower().split()))
    if len(words) > _MOST_WORDS or len(text) > _LONGEST:
        raise Invalid(f"a search has at most {_MOST_WORDS} words and {_LONGEST} characters")
    if "\0" in text:
        raise Invalid("a search has no NUL")
    return words


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

    async def search(
        self, words: Sequence[str], projects: Sequence[str], limit: int
    ) -> list[RepositoryRecord]:
        """Repositories of ``projects`` that have every one of ``words`` in their name, description or labels; those
        that have all of them in the name come first."""
        named = and_(true(), *(Repository.name.contains(word, autoescape=True) for word in words))
        said = (
            Repository.name.contains(word, autoescape=True) | Repository.words.contains(word, autoescape=True)
            for word in words
        )
        query = (
            select(Repository.name, Repository.description, func.count(Tag.name), func.max(Tag.updated))
            .join(Project, Project.id == Repository.project_id)
            .outerjoin(Tag, Tag.repository_id == Repository.id)
            .where(Project.name.in_(projects), *said)
            .group_by(Repository.id)
            .order_by(case((named, 0), else_=1), Repository.name)
            .limit(min(limit, MAX_PAGE))
        )
        async with self._database.read() as session:
            return [RepositoryRecord(*row) for row in (await session.execute(query)).all()]

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
