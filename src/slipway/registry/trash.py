"""Deleting with a way back: what is thrown away is gone for everybody, and can be taken out again for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.errors import Conflict, Denied, NotFound
from slipway.registry import events, manifests, repositories, tagging, usage
from slipway.registry.repositories import project_of, require
from slipway.state import Database
from slipway.state.tables import DeletedTag, Manifest, ManifestReference, Project, Repository, Tag

TOMBSTONES = timedelta(days=90)
"""How long other sites have to hear that a tag was deleted."""


@dataclass(frozen=True, slots=True)
class Thrown:
    """A tag, or (``tag`` empty) an image, in the trash; ``until`` is when it goes for good."""

    repository: str
    tag: str
    digest: str
    deleted: datetime
    deleted_by: str
    until: datetime


async def throw_away(
    session: AsyncSession,
    owner: Repository,
    reference: str,
    by: str,
    *,
    own: bool = False,
    whole: bool = False,
) -> None:
    """A tag, or by digest an image with its tags and what was said about it. Raises ``NotFound`` and ``Denied``.

    ``own``: only what ``by`` pushed. ``whole``: with its last tag goes the image, unless an index needs it.
    """
    moment = now()
    if ":" not in reference:
        found = await locked(session, owner, reference)
        if found is None:
            raise NotFound(f"there is no tag {reference[:150]!r} in {owner.name!r}")
        _may(own, by, found.pushed_by, reference)
        await _mutable(session, owner, found)
        await tagging.remove(session, owner, found, by, moment=moment)
        if whole:
            image = await session.get_one(Manifest, found.manifest_id)
            if not await is_needed(session, owner, image):
                await _with_all_about(session, owner, image, by, moment)
        await _emit(session, owner, events.DELETED, by, tag=reference)
        return
    row = await manifests.by_digest(session, owner, reference, lock=True)
    if row is None:
        raise NotFound(f"there is no manifest {reference[:150]!r} in {owner.name!r}")
    _may(own, by, row.pushed_by, reference)
    await _with_all_about(session, owner, row, by, moment, own=own)
    await _emit(session, owner, events.DELETED, by, digest=row.digest)


async def _with_all_about(
    session: AsyncSession, owner: Repository, row: Manifest, by: str, moment: datetime, *, own: bool = False
) -> None:
    """The image, what was said about it, and the tags of both. Raises ``Denied`` and ``Conflict``."""
    ids = await _together(session, owner, row)
    for found in list(await session.scalars(select(Tag).where(Tag.manifest_id.in_(ids)))):
        if found.manifest_id == row.id:
            _may(own, by, found.pushed_by, found.name)
        if not tagging.is_beside(found.name):  # a signature's tag goes with what it signs
            await _mutable(session, owner, found)
        await tagging.remove(session, owner, found, by, moment=moment)
    await session.execute(update(Manifest).where(Manifest.id.in_(ids)).values(deleted=moment))


async def locked(session: AsyncSession, owner: Repository, name: str) -> Tag | None:
    """The tag, and its manifest locked. Raises ``Conflict`` when it is moved in this moment."""
    found = await session.get(Tag, (owner.id, name))
    if found is None:
        return None
    before = found.manifest_id
    await session.get(Manifest, before, with_for_update=True, populate_existing=True)
    found = await session.get(Tag, (owner.id, name), populate_existing=True)
    if found is not None and found.manifest_id != before:
        raise Conflict(f"the tag {name!r} of {owner.name!r} was moved in the same moment", hint="try again")
    return found


async def is_needed(session: AsyncSession, owner: Repository, row: Manifest) -> bool:
    """By a tag, or by an index of the repository."""
    indexed = (
        select(ManifestReference.digest)
        .join(Manifest, Manifest.id == ManifestReference.manifest_id)
        .where(Manifest.repository_id == owner.id, ManifestReference.digest == row.digest)
    )
    tagged = select(Tag.name).where(Tag.manifest_id == row.id)
    return any([(await session.execute(query.limit(1))).first() for query in (indexed, tagged)])


async def _together(session: AsyncSession, owner: Repository, row: Manifest) -> list[int]:
    """The image and what is about it, by its subject or by a tag that names the image's digest."""
    beside = select(Tag.manifest_id).where(
        Tag.repository_id == owner.id, Tag.name.in_(tagging.beside(row.digest))
    )
    about = (Manifest.subject == row.digest) | Manifest.id.in_(beside)
    here = Manifest.repository_id == owner.id, Manifest.deleted.is_(None)
    # Locked, so that nobody tags one of them between a look at its tags and its end.
    query = select(Manifest.id).where(about, *here).order_by(Manifest.id).with_for_update(of=Manifest)
    return [row.id, *await session.scalars(query)]


def _may(own: bool, by: str, pushed_by: str, what: str) -> None:
    if own and by != pushed_by:
        raise Denied(
            f"{by} did not push {what[:150]!r} and may not delete it", hint="a project's admins may delete"
        )


async def _mutable(session: AsyncSession, owner: Repository, found: Tag) -> None:
    if (await tagging.policy_of(session, owner)).is_immutable(owner.name, found.name):
        raise Conflict(f"the tag {found.name!r} of {owner.name!r} is immutable", hint="change the rule first")


async def _emit(
    session: AsyncSession, owner: Repository, kind: str, by: str, *, tag: str = "", digest: str = ""
) -> None:
    await events.emit(session, kind, project_of(owner.name), owner.name, by=by, tag=tag, digest=digest)


async def restore(session: AsyncSession, owner: Repository, reference: str, by: str) -> None:
    """What was thrown away with ``reference``: what has the same moment. Raises ``NotFound``, and ``Conflict`` for a
    tag that is there again."""
    moment = await _moment(session, owner, reference)
    if moment is None:
        raise NotFound(f"there is no {reference[:150]!r} of {owner.name!r} in the trash")
    if ":" not in reference and await session.get(Tag, (owner.id, reference)) is not None:
        raise Conflict(f"the tag {reference!r} of {owner.name!r} is there again", hint="remove it first")
    here = DeletedTag.repository_id == owner.id, DeletedTag.deleted == moment
    graves = list(await session.scalars(select(DeletedTag).where(*here)))
    ids = [gone.manifest_id for gone in graves if gone.manifest_id]
    thrown = Manifest.repository_id == owner.id, (Manifest.deleted == moment) | Manifest.id.in_(ids)
    # All locked, and before any tag moves: who throws one away, or empties the trash, comes before this or after it.
    locked = select(Manifest).where(*thrown).order_by(Manifest.id).with_for_update()
    found = await session.scalars(locked.execution_options(populate_existing=True))
    images = {row.id: row for row in found}
    if not any(row.digest == reference for row in images.values()) and not any(
        gone.name == reference and gone.manifest_id in images for gone in graves
    ):
        raise NotFound(f"{reference[:150]!r} of {owner.name!r} has just gone for good")
    for row in images.values():
        row.deleted = None
    for gone in graves:
        image = images.get(gone.manifest_id or 0)
        if image is not None and await session.get(Tag, (owner.id, gone.name)) is None:
            await tagging.put(session, owner, gone.name, image, by)
    tag, digest = ("", reference) if ":" in reference else (reference, "")
    await _emit(session, owner, events.RESTORED, by, tag=tag, digest=digest)


async def _moment(session: AsyncSession, owner: Repository, reference: str) -> datetime | None:
    """When the tag or the image was thrown away, if its bytes are still kept."""
    if ":" in reference:
        query = select(Manifest.deleted).where(
            Manifest.repository_id == owner.id, Manifest.digest == reference
        )
    else:
        query = select(DeletedTag.deleted).where(
            DeletedTag.repository_id == owner.id,
            DeletedTag.name == reference,
            DeletedTag.manifest_id.is_not(None),
        )
    return await session.scalar(query)


async def purge(session: AsyncSession, owner: Repository, reference: str) -> None:
    """Out of the trash for good, if it is in there; the blobs go when they are collected."""
    moment = await _moment(session, owner, reference)
    if moment is not None:
        await _remove(session, and_(Manifest.repository_id == owner.id, Manifest.deleted == moment))


async def _remove(session: AsyncSession, which: ColumnElement[bool]) -> int:
    # Locked: one that is restored or pushed again in this moment is in the trash no longer, and stays.
    locked = select(Manifest.id).where(which).order_by(Manifest.id).with_for_update()
    ids = list(await session.scalars(locked))
    for first in range(0, len(ids), 500):
        some = Manifest.id.in_(ids[first : first + 500])
        await usage.remove(session, some)
        await session.execute(delete(Manifest).where(some))
    return len(ids)


class Trash:
    """What was thrown away in the last hours, over the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def restore(self, repository: str, reference: str, by: str) -> None:
        async with self._database.session() as session:
            await restore(session, await require(session, repository), reference, by)

    async def list(self, project: str) -> list[Thrown]:
        """Newest first."""
        async with self._database.read() as session:
            owner = await repositories.project(session, project)
            kept = tagging.policy(owner).trash
            tagged = (
                select(
                    Repository.name,
                    DeletedTag.name,
                    DeletedTag.digest,
                    DeletedTag.deleted,
                    DeletedTag.deleted_by,
                )
                .join(Repository, Repository.id == DeletedTag.repository_id)
                .where(Repository.project_id == owner.id, DeletedTag.manifest_id.is_not(None))
            )
            bare = (
                select(Repository.name, literal(""), Manifest.digest, Manifest.deleted, Manifest.pushed_by)
                .join(Repository, Repository.id == Manifest.repository_id)
                .where(
                    Repository.project_id == owner.id,
                    Manifest.deleted.is_not(None),
                    Manifest.subject.is_(None),
                    ~select(DeletedTag.name).where(DeletedTag.manifest_id == Manifest.id).exists(),
                )
            )
            rows = [*(await session.execute(tagged)).all(), *(await session.execute(bare)).all()]
        found = [
            Thrown(repository, tag, digest, deleted, by, deleted + kept)
            for repository, tag, digest, deleted, by in rows
            if deleted is not None
        ]
        return sorted(found, key=lambda item: item.deleted, reverse=True)

    async def empty(self) -> int:
        """Remove what was in the trash for longer than its project keeps it; how many images that were."""
        present, removed = now(), 0
        async with self._database.read() as session:
            projects = [(row.id, tagging.policy(row).trash) for row in await session.scalars(select(Project))]
        for project, kept in projects:
            async with self._database.session() as session:
                mine = select(Repository.id).where(Repository.project_id == project)
                removed += await _remove(
                    session,
                    Manifest.repository_id.in_(mine)
                    & Manifest.deleted.is_not(None)
                    & (Manifest.deleted < present - kept),
                )
        async with self._database.session() as session:
            await session.execute(delete(DeletedTag).where(DeletedTag.deleted < present - TOMBSTONES))
        return removed
