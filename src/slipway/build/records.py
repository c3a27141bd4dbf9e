"""What is kept of each build: a row, and a log of every event, which outlives the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select, update

from slipway.base.clock import now
from slipway.base.progress import Progress
from slipway.build.log import BuildLog
from slipway.build.logs import BuildLogs
from slipway.build.policy import BuildPolicy
from slipway.errors import NotFound
from slipway.state import Database
from slipway.state.tables import Build as Row
from slipway.state.tables import Project

ACTIVE = ("queued", "running")
LOG_SIZE = 64 << 20
_AT_ONCE = 10  # a log may be large


class BuildRecords:
    """The rows of all builds, and their logs as lines of JSON, of ``log_size`` bytes at most."""

    def __init__(self, database: Database, logs: BuildLogs, log_size: int = LOG_SIZE) -> None:
        self._database = database
        self._logs = logs
        self._log_size = log_size

    async def add(
        self, build_id: str, project: str, limits: Callable[[BuildPolicy], Mapping[str, Any]], **values: Any
    ) -> BuildPolicy:
        """A row for a build that waits now. What the project's policy is; its ``limits`` are part of the row."""
        async with self._database.session() as session:
            found = await session.scalar(select(Project).where(Project.name == project))
            if found is None:
                raise NotFound(f"there is no project {project!r}")
            policy = BuildPolicy.parse(found.policy.get("build"))
            session.add(
                Row(
                    id=build_id, project_id=found.id, state="queued", created=now(), limits=dict(limits(policy)),
                    log_path="", **values,
                )
            )  # fmt: skip
        return policy

    async def set(self, build_id: str, **values: Any) -> None:
        async with self._database.session() as session:
            await session.execute(update(Row).where(Row.id == build_id).values(**values))

    async def get(self, build_id: str) -> Row:
        async with self._database.read() as session:
            row = await session.get(Row, build_id)
        if row is None:
            raise NotFound(f"there is no build {build_id!r}", hint="`slipway builds ls` lists them")
        return row

    async def project_of(self, build_id: str) -> str:
        row = await self.get(build_id)
        async with self._database.read() as session:
            project = await session.get(Project, row.project_id)
        return project.name if project else ""

    async def list(self, projects: Sequence[str], count: int = 200) -> list[tuple[Row, str]]:
        """Newest first, with their projects' names."""
        query = (
            select(Row, Project.name)
            .join(Project, Project.id == Row.project_id)
            .where(Project.name.in_(projects))
            .order_by(Row.created.desc())
            .limit(count)
        )
        async with self._database.read() as session:
            return [(row, name) for row, name in (await session.execute(query)).all()]

    async def active(self) -> Sequence[tuple[str, str]]:
        """The builds that have not ended, with their services."""
        query = select(Row.id, Row.service).where(Row.state.in_(ACTIVE))
        async with self._database.read() as session:
            return [(build_id, service) for build_id, service in await session.execute(query)]

    async def end(self, build_id: str, log: BuildLog, values: Mapping[str, Any]) -> None:
        """The log before the record: who follows it until the build has ended misses nothing."""
        await log.close()
        await self.set(build_id, finished=now(), **values)

    async def prune(self, age: timedelta) -> int:
        """Forget the builds that ended before that, and their logs. How many these were."""
        oldest, count = now() - age, 0
        old = select(Row.id).where(Row.finished < oldest, Row.state.not_in(ACTIVE)).limit(_AT_ONCE)
        while True:
            async with self._database.session() as session:
                found = (await session.scalars(old)).all()
                await session.execute(delete(Row).where(Row.id.in_(found)))  # rows of their logs go with them
            count += len(found)
            if len(found) < _AT_ONCE:
                break
        await self._logs.prune(oldest)
        return count

    def log(self, build_id: str, progress: Progress) -> BuildLog:
        return BuildLog(self._logs.writer(build_id), progress, self._log_size)

    async def events(
        self, build_id: str, is_ours: Callable[[], bool], follow: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """Every event of a build and, with ``follow``, what comes until it ends here (``is_ours``) or elsewhere."""
        await self.get(build_id)

        async def goes_on() -> bool:
            if not follow or is_ours():
                return follow
            return self._logs.shared and (await self.get(build_id)).state in ACTIVE

        async with aclosing(self._logs.read(build_id, goes_on)) as lines:
            async for line in lines:
                yield json.loads(line)
