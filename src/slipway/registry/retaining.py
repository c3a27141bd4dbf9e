"""The rules of retention, applied: tags go to the trash, with their images."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from slipway.base.clock import now
from slipway.errors import Conflict, SlipwayError
from slipway.registry import events, manifests, repositories, tagging, trash
from slipway.registry.retention import TagFacts, Verdict, judge
from slipway.state import Database
from slipway.state.tables import Manifest, ManifestReference, Project, Repository, Tag

log = logging.getLogger(__name__)
ACTOR = "retention"


class Retention:
    """What each project's policy lets go."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def judge(self, project: str) -> list[Verdict]:
        """Every tag of the project with what becomes of it; nothing is changed. Raises ``NotFound``."""
        async with self._database.read() as session:
            owner = await repositories.project(session, project)
            query = (
                select(Repository.name, Tag.name, Manifest.digest, Tag.updated, Tag.pulled)
                .join(Tag, Tag.repository_id == Repository.id)
                .join(Manifest, Manifest.id == Tag.manifest_id)
                .where(Repository.project_id == owner.id)
            )
            rows = (await session.execute(query)).all()
            facts = [TagFacts(*row) for row in rows if not tagging.is_beside(row[1])]
            policy = tagging.policy(owner)
        return sorted(judge(facts, policy, now()), key=lambda item: (item.facts.repository, item.facts.tag))

    async def apply(self, project: str) -> list[Verdict]:
        """Throw away what no rule keeps; what was thrown away."""
        gone = [verdict for verdict in await self.judge(project) if not verdict.keep]
        for verdict in gone:
            try:
                await self._remove(project, verdict)
            except Conflict as error:  # somebody pushes there right now
                log.info("%s:%s stays: %s", verdict.facts.repository, verdict.facts.tag, error.message)
        await self._untagged(project)
        return gone

    async def _remove(self, project: str, verdict: Verdict) -> None:
        facts = verdict.facts
        async with self._database.session() as session:
            owner = await session.scalar(select(Repository).where(Repository.name == facts.repository))
            found = await trash.locked(session, owner, facts.tag) if owner else None
            if owner is None or found is None or found.updated > facts.pushed:
                return  # pushed since it was judged
            await trash.throw_away(session, owner, facts.tag, ACTOR, whole=True)
            await events.emit(
                session, events.RETAINED, project, facts.repository, by=ACTOR, tag=facts.tag,
                digest=facts.digest, detail={"reason": verdict.reason},
            )  # fmt: skip

    async def _untagged(self, project: str) -> None:
        """Images that lost their tag, and what was pushed for an index that never came."""
        async with self._database.session() as session:
            owner = await session.scalar(select(Project).where(Project.name == project))
            days = tagging.policy(owner).untagged_days if owner else 0
            if owner is None or not days:
                return
            for repository, digest in await _loose(session, owner.id, days):
                row = await manifests.by_digest(session, repository, digest, lock=True)
                if row is not None and not await trash.is_needed(session, repository, row):
                    await trash.throw_away(session, repository, digest, ACTOR)

    async def run(self) -> int:
        """For all projects; how many tags went."""
        async with self._database.read() as session:
            projects = list(await session.scalars(select(Project)))
        count = 0
        for project in projects:
            policy = tagging.policy(project)
            if policy.retention or policy.untagged_days:
                try:
                    count += len(await self.apply(project.name))
                except SlipwayError as error:
                    log.warning("the retention of %s was not finished: %s", project.name, error.message)
        return count


async def _loose(session: AsyncSession, project: int, days: float) -> list[tuple[Repository, str]]:
    parent = aliased(Manifest)
    needed = (
        select(ManifestReference.digest)
        .join(parent, parent.id == ManifestReference.manifest_id)
        .where(parent.repository_id == Manifest.repository_id, ManifestReference.digest == Manifest.digest)
    )
    query = (
        select(Repository, Manifest.digest)
        .join(Manifest, Manifest.repository_id == Repository.id)
        .where(
            Repository.project_id == project,
            Manifest.deleted.is_(None),
            Manifest.subject.is_(None),
            Manifest.created < now() - timedelta(days=days),
            ~select(Tag.name).where(Tag.manifest_id == Manifest.id).exists(),
            ~needed.exists(),
        )
    )
    return [(repository, digest) for repository, digest in (await session.execute(query)).all()]
