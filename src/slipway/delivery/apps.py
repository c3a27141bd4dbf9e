"""Apps and releases in the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.compose import Project
from slipway.delivery.engine import AppRef
from slipway.delivery.releases import Release, from_row, release_digest
from slipway.errors import Conflict, NotFound
from slipway.state import Database
from slipway.state.tables import App
from slipway.state.tables import Project as ProjectRow
from slipway.state.tables import Release as ReleaseRow

ACTIVE, REMOVING, REMOVING_VOLUMES = "active", "removing", "removing with volumes"


@dataclass(frozen=True, slots=True)
class AppState:
    """An app's row: which release should run, and overridden replica counts."""

    ref: AppRef
    current: int | None
    scale: Mapping[str, int] = field(default_factory=dict)
    state: str = ACTIVE

    @property
    def removing(self) -> bool:
        """Whether its removal was begun; there is no way back."""
        return self.state != ACTIVE

    @property
    def removing_volumes(self) -> bool:
        return self.state == REMOVING_VOLUMES


class Apps:
    """Reads and writes of rows; nothing here starts or stops anything."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[AppState]:
        query = select(App, ProjectRow.name).join(ProjectRow).order_by(ProjectRow.name, App.name)
        async with self._database.session() as session:
            rows = (await session.execute(query)).all()
        return [
            AppState(AppRef(project, app.name), app.current_release, app.scale, app.state)
            for app, project in rows
        ]

    async def get(self, ref: AppRef) -> AppState:
        async with self._database.session() as session:
            row = await _require(session, ref)
            return AppState(ref, row.current_release, row.scale, row.state)

    async def ensure(self, ref: AppRef) -> AppState:
        async with self._database.session() as session:
            row = await _find(session, ref)
            if row is None:
                project = await session.scalar(select(ProjectRow).where(ProjectRow.name == ref.project))
                if project is None:
                    raise NotFound(f"there is no project {ref.project!r}")
                row = App(
                    project_id=project.id,
                    name=ref.name,
                    current_release=None,
                    state=ACTIVE,
                    scale={},
                    created=now(),
                )
                session.add(row)
            return AppState(ref, row.current_release, row.scale, row.state)

    async def confirm(self, state: AppState) -> None:
        """Raises ``Conflict`` when the app is no longer in this state: another server has changed it."""
        now_is = await self.get(state.ref)
        if (now_is.current, now_is.scale, now_is.state) != (state.current, state.scale, state.state):
            raise Conflict(
                f"{state.ref} was changed by another server meanwhile",
                hint=f"`slipway app show {state.ref.name}`",
            )

    async def next_number(self, ref: AppRef) -> int:
        async with self._database.session() as session:
            row = await _require(session, ref)
            top = await session.scalar(select(func.max(ReleaseRow.number)).where(ReleaseRow.app_id == row.id))
            return (top or 0) + 1

    async def record(
        self,
        ref: AppRef,
        number: int,
        model: Project,
        images: Mapping[str, Mapping[str, str]],
        by: str,
        revision: str,
    ) -> Release:
        """A new release, pending until it serves."""
        row = ReleaseRow(
            number=number,
            created=now(),
            created_by=by,
            source_revision=revision,
            model=model.to_json(),
            images={name: dict(image) for name, image in images.items()},
            digest=release_digest(model, images),
            status="pending",
            error=None,
        )
        async with self._database.session() as session:
            row.app_id = (await _require(session, ref)).id
            session.add(row)
        return from_row(row)

    async def release(self, ref: AppRef, number: int) -> Release:
        async with self._database.session() as session:
            app = await _require(session, ref)
            row = await session.scalar(
                select(ReleaseRow).where(ReleaseRow.app_id == app.id, ReleaseRow.number == number)
            )
            if row is None:
                raise NotFound(
                    f"{ref} has no release {number}", hint=f"`slipway app releases {ref.name}` lists them"
                )
            return from_row(row)

    async def current(self, state: AppState) -> Release | None:
        """The release that should run in this state; ``None`` before the first one has served."""
        return await self.release(state.ref, state.current) if state.current is not None else None

    async def releases(self, ref: AppRef) -> list[Release]:
        """Newest first."""
        async with self._database.session() as session:
            app = await _require(session, ref)
            rows = await session.scalars(
                select(ReleaseRow).where(ReleaseRow.app_id == app.id).order_by(ReleaseRow.number.desc())
            )
            return [from_row(row) for row in rows]

    async def activate(self, ref: AppRef, number: int) -> None:
        """From now on this release is what should run; one transaction."""
        async with self._database.session() as session:
            app = await _require(session, ref)
            others = update(ReleaseRow).where(ReleaseRow.app_id == app.id, ReleaseRow.status == "active")
            await session.execute(others.values(status="superseded"))
            this = update(ReleaseRow).where(ReleaseRow.app_id == app.id, ReleaseRow.number == number)
            await session.execute(this.values(status="active", error=None))
            app.current_release = number

    async def fail(self, ref: AppRef, number: int, error: str) -> None:
        """A release that was on its way did not make it. One that served before stays what it is."""
        async with self._database.session() as session:
            app = await _require(session, ref)
            this = update(ReleaseRow).where(ReleaseRow.app_id == app.id, ReleaseRow.number == number)
            pending = this.where(ReleaseRow.status == "pending")
            await session.execute(pending.values(status="failed", error=error[:4000]))

    async def interrupt_pending(self) -> None:
        """After a restart: releases that were on their way did not make it."""
        async with self._database.session() as session:
            pending = update(ReleaseRow).where(ReleaseRow.status == "pending")
            await session.execute(
                pending.values(status="failed", error="interrupted by a restart of the server")
            )

    async def set_scale(self, ref: AppRef, scale: Mapping[str, int]) -> None:
        async with self._database.session() as session:
            app = await _require(session, ref)
            app.scale = {**app.scale, **scale}

    async def start_removal(self, ref: AppRef, volumes: bool) -> None:
        """From now on the app is going. Once its volumes are to go too, they are."""
        async with self._database.session() as session:
            app = await _require(session, ref)
            if app.state != REMOVING_VOLUMES:
                app.state = REMOVING_VOLUMES if volumes else REMOVING

    async def remove(self, ref: AppRef) -> None:
        """Forget the app and its releases."""
        async with self._database.session() as session:
            await session.delete(await _require(session, ref))


async def _find(session: AsyncSession, ref: AppRef) -> App | None:
    query = select(App).join(ProjectRow).where(ProjectRow.name == ref.project, App.name == ref.name)
    found: App | None = await session.scalar(query)
    return found


async def _require(session: AsyncSession, ref: AppRef) -> App:
    row = await _find(session, ref)
    if row is None:
        raise NotFound(
            f"there is no app {ref.name!r} in the project {ref.project!r}", hint="`slipway app ls`"
        )
    return row
