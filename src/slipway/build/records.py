"""What is kept of each build: a row, and a file with every event, which outlives the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from slipway.base.clock import now
from slipway.base.progress import Event, Progress
from slipway.build.policy import BuildPolicy
from slipway.errors import NotFound
from slipway.state import Database
from slipway.state.tables import Build as Row
from slipway.state.tables import Project

_POLL = 0.1
ACTIVE = ("queued", "running")


class BuildRecords:
    """The rows of all builds, and their logs as JSON lines in ``directory``."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def log_path(self, build_id: str) -> Path:
        return self._directory / f"{build_id}.jsonl"

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
                    log_path=str(self.log_path(build_id)), **values,
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

    async def events(self, build_id: str, going: Callable[[], bool]) -> AsyncIterator[dict[str, Any]]:
        """Every event of a build, and what comes for as long as it is ``going``."""
        await self.get(build_id)
        more = True
        try:
            handle = await asyncio.to_thread(self.log_path(build_id).open, "rb")
        except FileNotFoundError:
            return
        with handle:
            rest = b""
            while more:
                more = going()
                while data := await asyncio.to_thread(handle.read, 1 << 20):
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
                if more:
                    await asyncio.sleep(_POLL)

    async def interrupt(self) -> None:
        """What was active when the server was killed is said to be over, and can be retried."""
        async with self._database.session() as session:
            left = update(Row).where(Row.state.in_(ACTIVE))
            await session.execute(
                left.values(
                    state="interrupted", finished=now(), error="the server was restarted; build it again"
                )
            )


class BuildLog:
    """Passes events on, and into the build's file."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._handle = path.open("ab", buffering=0)
        self._progress = progress

    def __call__(self, event: Event) -> None:
        line = json.dumps(dict(event)).encode() + b"\n"
        with suppress(OSError):  # a full disk must not hide the error that it causes elsewhere
            if self._handle.closed:  # said after the build's end, when nobody follows it any more
                with self._path.open("ab") as handle:
                    handle.write(line)
                return
            self._handle.write(line)
        self._progress(event)

    def close(self) -> None:
        self._handle.close()
