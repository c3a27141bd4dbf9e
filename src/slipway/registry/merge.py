"""What becomes of a tag when another site's move of it arrives: a decision, and its application."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.registry import clock, events, tagging
from slipway.registry.repositories import project_of
from slipway.registry.tagging import Move
from slipway.state.tables import DeletedTag, Manifest, ReplicationConflict, Repository, Tag


class Outcome(StrEnum):
    """What was there is the SAME, the move was TAKEN, or what is here was KEPT, being later."""

    SAME = "same"
    TAKEN = "taken"
    KEPT = "kept"


def knows(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Whether ``one`` was made knowing of all that ``other`` knew of."""
    return all(one.get(site, 0) >= stamp for site, stamp in other.items())


def decide(ours: Move | None, theirs: Move) -> tuple[Outcome, bool]:
    """What to do, and whether the two moves were made without knowledge of each other."""
    if ours is None:
        return Outcome.TAKEN, False
    if knows(ours.versions, theirs.versions):
        return Outcome.SAME if (ours.stamp, ours.origin) == (
            theirs.stamp,
            theirs.origin,
        ) else Outcome.KEPT, False
    if knows(theirs.versions, ours.versions):
        return Outcome.TAKEN, False
    later = (theirs.stamp, theirs.origin) > (ours.stamp, ours.origin)
    return Outcome.TAKEN if later else Outcome.KEPT, True


def merged(one: Move, other: Move) -> Move:
    """The later of two, knowing what both knew."""
    winner = max(one, other, key=lambda move: (move.stamp, move.origin))
    versions = {
        site: max(one.versions.get(site, 0), other.versions.get(site, 0))
        for site in {*one.versions, *other.versions}
    }
    return Move(winner.stamp, winner.origin, versions)


async def apply(
    session: AsyncSession, repository: Repository, name: str, row: Manifest | None, move: Move, by: str
) -> Outcome:
    """Let another site's move of a tag to ``row`` (``None``: its removal) have its effect here."""
    await clock.witness(session, max(move.versions.values()))  # first: from here on nobody else moves it
    tag = await session.get(Tag, (repository.id, name))
    grave = await session.get(DeletedTag, (repository.id, name)) if tag is None else None
    here = tag or grave
    ours = Move.of(here) if here is not None else None
    outcome, blind = decide(ours, move)
    if outcome is Outcome.SAME or (outcome is Outcome.KEPT and not blind):
        return outcome
    mine = await _digest(session, tag)
    known = merged(ours, move) if ours is not None else move
    if blind and mine != (row.digest if row else ""):
        both = (row.digest if row else "", move.origin), (mine, ours.origin if ours else "")
        await _record(session, repository, name, both if outcome is Outcome.TAKEN else (both[1], both[0]))
    if outcome is Outcome.KEPT:
        assert here is not None
        await _learn(session, here, known)
    elif row is not None:
        sequence, _ = await clock.tick(session)
        await tagging.place(session, repository, name, row, by, known, sequence)
    elif tag is not None:
        await tagging.remove(session, repository, tag, by, known)
    else:
        await _bury(session, repository, name, grave, known, by)
    return outcome


async def _learn(session: AsyncSession, here: Tag | DeletedTag, known: Move) -> None:
    """What is here stays, and goes out again: that it won, the others have to hear."""
    sequence, _ = await clock.tick(session)
    table = Tag if isinstance(here, Tag) else DeletedTag
    mine = table.repository_id == here.repository_id, table.name == here.name
    await session.execute(update(table).where(*mine).values(versions=dict(known.versions), sequence=sequence))


async def _bury(
    session: AsyncSession, repository: Repository, name: str, grave: DeletedTag | None, known: Move, by: str
) -> None:
    """The removal of a tag that we never had, or no longer have: an older move of it must not bring it back."""
    sequence, _ = await clock.tick(session)
    await session.merge(
        DeletedTag(
            repository_id=repository.id, name=name, manifest_id=grave.manifest_id if grave else None,
            digest=grave.digest if grave else "", deleted=grave.deleted if grave else now(), deleted_by=by,
            sequence=sequence, stamp=known.stamp, origin=known.origin, versions=dict(known.versions),
        )
    )  # fmt: skip


async def _digest(session: AsyncSession, tag: Tag | None) -> str:
    if tag is None:
        return ""
    return await session.scalar(select(Manifest.digest).where(Manifest.id == tag.manifest_id)) or ""


async def _record(
    session: AsyncSession, repository: Repository, name: str, sides: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    """``sides``: what holds and what does not, each a digest (empty: removed) and a site."""
    (kept, kept_origin), (lost, lost_origin) = sides
    session.add(
        ReplicationConflict(
            moment=now(), repository=repository.name, tag=name, kept=kept, kept_origin=kept_origin, lost=lost,
            lost_origin=lost_origin,
        )
    )  # fmt: skip
    await events.emit(
        session, events.CONFLICT, project_of(repository.name), repository.name, by="replication", tag=name,
        digest=kept, detail={"lost": lost, "kept_origin": kept_origin, "lost_origin": lost_origin},
    )  # fmt: skip
