"""Tags: moved, removed, restored, always within a transaction and always with a stamp."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.errors import Conflict
from slipway.oci import Digest
from slipway.registry import clock, events
from slipway.registry.policy import RegistryPolicy
from slipway.registry.repositories import project_of
from slipway.state import replace
from slipway.state.tables import DeletedTag, Manifest, ManifestReference, Project, Repository, Tag


@dataclass(frozen=True, slots=True)
class Move:
    """When and at which site a tag was moved or removed, and the latest moves that this one knew of, by site."""

    stamp: int
    origin: str
    versions: Mapping[str, int]

    @classmethod
    def after(cls, before: Tag | DeletedTag | None, stamp: int, site: str) -> Self:
        return cls(stamp, site, {**(before.versions if before else {}), site: stamp})

    @classmethod
    def of(cls, row: Tag | DeletedTag) -> Self:
        return cls(row.stamp, row.origin, row.versions)


@dataclass(frozen=True, slots=True)
class Words:
    """What an image says of itself, for those who search; see ``slipway.registry.labels``."""

    description: str
    labels: str


def describe(repository: Repository, name: str, words: Words) -> None:
    """The repository is what the image says that was tagged last. A tag beside an image says nothing of it."""
    if not is_beside(name) and (repository.description, repository.words) != (
        words.description,
        words.labels,
    ):
        repository.description, repository.words = words.description, words.labels


_BESIDE = ("sig", "att", "sbom")
_BESIDE_TAG = re.compile(rf"sha256-[0-9a-f]{{64}}\.({'|'.join(_BESIDE)})")


def is_beside(tag: str) -> bool:
    """Whether the tag is no image's own but holds a signature or a document of the image whose digest it names."""
    return _BESIDE_TAG.fullmatch(tag) is not None


def beside(digest: str) -> list[str]:
    """The tags that cosign and its like use for what they say about an image."""
    return [f"{digest.replace(':', '-')}.{word}" for word in _BESIDE]


def policy(project: Project) -> RegistryPolicy:
    return RegistryPolicy.parse(project.policy.get("registry"))


async def policy_of(session: AsyncSession, repository: Repository) -> RegistryPolicy:
    return policy(await session.get_one(Project, repository.project_id))


async def put(session: AsyncSession, repository: Repository, name: str, row: Manifest, by: str = "") -> None:
    """Point the tag at the manifest. Raises ``Conflict`` for an immutable tag that points elsewhere.

    Where it points there already, that is a move as any other: later than a removal elsewhere that is not known yet.
    """
    stamp, site = await clock.tick(session)
    # Who moves a tag waits for the clock: whoever was before us has committed, and is seen from here on.
    found = await session.get(Tag, (repository.id, name), populate_existing=True)
    moves = found is not None and found.manifest_id != row.id
    if moves and (await policy_of(session, repository)).is_immutable(repository.name, name):
        raise Conflict(
            f"the tag {name!r} of {repository.name!r} is immutable and is there already",
            hint="push under another tag, or let a project admin change the rule",
        )
    before: Tag | DeletedTag | None = found
    if before is None:
        before = await session.get(DeletedTag, (repository.id, name))
    if not by and found is not None and not moves:
        by = found.pushed_by
    await place(session, repository, name, row, by, Move.after(before, stamp, site), stamp)


async def place(
    session: AsyncSession,
    repository: Repository,
    name: str,
    row: Manifest,
    by: str,
    move: Move,
    sequence: int,
) -> None:
    """The tag as it was moved at some site at some time."""
    gone = DeletedTag.repository_id == repository.id, DeletedTag.name == name
    await session.execute(delete(DeletedTag).where(*gone))
    await replace(
        session, Tag, repository_id=repository.id, name=name, manifest_id=row.id, updated=now(), pushed_by=by,
        sequence=sequence, stamp=move.stamp, origin=move.origin, versions=dict(move.versions),
    )  # fmt: skip


async def remove(
    session: AsyncSession, repository: Repository, found: Tag, by: str,
    move: Move | None = None, moment: datetime | None = None,
) -> None:  # fmt: skip
    """To the trash. ``move``: when and where this was done first, if not here and now.

    Raises ``Conflict`` for a tag that was moved since it was ``found``: what it leads to now was not meant.
    """
    sequence, site = await clock.tick(session)
    meant = found.manifest_id
    current = await session.get(Tag, (repository.id, found.name), populate_existing=True)
    if current is None or current.manifest_id != meant:
        raise Conflict(
            f"the tag {found.name!r} of {repository.name!r} was moved in the same moment", hint="try again"
        )
    move = move or Move.after(found, sequence, site)
    await session.merge(
        DeletedTag(
            repository_id=repository.id, name=found.name, manifest_id=found.manifest_id,
            digest=await _digest(session, found.manifest_id), deleted=moment or now(), deleted_by=by,
            sequence=sequence, stamp=move.stamp, origin=move.origin, versions=dict(move.versions),
        )
    )  # fmt: skip
    await session.delete(found)
    await session.flush()


async def changed(session: AsyncSession, manifest: Manifest) -> None:
    """Something was added about an image: whoever follows its tags, or those of an index of it, is to look again."""
    above = (
        select(ManifestReference.manifest_id)
        .join(Manifest, Manifest.id == ManifestReference.manifest_id)
        .where(Manifest.repository_id == manifest.repository_id, ManifestReference.digest == manifest.digest)
    )
    query = select(Tag.name).where(
        Tag.repository_id == manifest.repository_id,
        (Tag.manifest_id == manifest.id) | Tag.manifest_id.in_(above),
    )
    names = list(await session.scalars(query))
    for name in names:
        sequence, _ = await clock.tick(session)
        mine = Tag.repository_id == manifest.repository_id, Tag.name == name
        await session.execute(update(Tag).where(*mine).values(sequence=sequence))


async def pushed(
    session: AsyncSession, repository: Repository, digest: Digest, by: str, tag: str = ""
) -> None:
    project = project_of(repository.name)
    await events.emit(session, events.PUSHED, project, repository.name, by=by, tag=tag, digest=str(digest))


async def _digest(session: AsyncSession, manifest_id: int) -> str:
    return await session.scalar(select(Manifest.digest).where(Manifest.id == manifest_id)) or ""
