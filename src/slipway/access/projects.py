"""Projects, their settings, their members."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access import groups
from slipway.access.identity import Identity
from slipway.access.records import MemberRecord, ProjectRecord
from slipway.access.roles import Role
from slipway.access.rows import check_name, find_project, find_user, insert, project_record
from slipway.base.clock import now
from slipway.errors import Conflict, NotFound
from slipway.state import Database, replace
from slipway.state.tables import App, Build, Member, Project, User


class Projects:
    """``on_policy`` are told the name of each project whose settings this process has changed. ``on_deletion``, before
    one goes, remove what must not be the next one's of its name, or raise to keep it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_policy: list[Callable[[str], None]] = []
        self.on_deletion: list[Callable[[str], Awaitable[None]]] = []

    async def create_project(self, name: str, *, public: bool = False, owner: str = "") -> ProjectRecord:
        """``owner`` becomes the project's first admin."""
        check_name(name, "project")
        row = Project(name=name, public=public, policy={}, created=now())
        await insert(self._database, row, f"the project {name!r} exists already")
        if owner:
            await self.set_member(name, owner, Role.ADMIN)
        return project_record(row)

    async def project(self, name: str) -> ProjectRecord:
        async with self._database.read() as session:
            return project_record(await find_project(session, name))

    async def projects(self, identity: Identity) -> list[ProjectRecord]:
        """The projects ``identity`` may see, and pull from: every role may."""
        async with self._database.read() as session:
            rows = list(await session.scalars(select(Project).order_by(Project.name)))
            if identity.is_admin:
                return [project_record(row) for row in rows]
            mine = set(
                await session.scalars(select(Member.project_id).where(Member.user_id == identity.id))
                if identity.kind == "user"
                else ()
            )
            if identity.kind == "user":
                mine |= await groups.projects(session, identity.id)
        return [
            project_record(row)
            for row in rows
            if row.public or row.id in mine or row.name == identity.project
        ]

    async def policy(self, project: str, section: str) -> dict[str, Any]:
        """What was set for one part of the platform in this project; empty where nothing was."""
        async with self._database.read() as session:
            found: dict[str, Any] = (await find_project(session, project)).policy.get(section) or {}
        return found

    async def set_policy(self, project: str, section: str, values: Mapping[str, Any]) -> None:
        async with self._database.session() as session:
            row = await find_project(session, project)
            row.policy = {**row.policy, section: dict(values)}
        self._policy_changed(project)

    def _policy_changed(self, project: str) -> None:
        for tell in self.on_policy:
            tell(project)

    async def delete_project(self, name: str) -> None:
        """Raises ``NotFound``, ``Conflict`` while it has apps or builds go on, and what ``on_deletion`` do."""
        async with self._database.read() as session:
            await _check_idle(session, await find_project(session, name))
        for prepare in self.on_deletion:
            await prepare(name)
        async with self._database.session() as session:
            row = await find_project(session, name)
            await session.refresh(row, with_for_update=True)  # nothing begins in it any more
            await _check_idle(session, row)  # but may have, meanwhile
            await session.delete(row)
        self._policy_changed(name)

    async def set_member(self, project: str, user: str, role: Role) -> None:
        async with self._database.session() as session:
            owner, row = await find_project(session, project), await find_user(session, user)
            await replace(session, Member, project_id=owner.id, user_id=row.id, role=role.value)

    async def remove_member(self, project: str, user: str) -> None:
        async with self._database.session() as session:
            owner, row = await find_project(session, project), await find_user(session, user)
            found = await session.get(Member, (owner.id, row.id))
            if found is None:
                raise NotFound(f"{user!r} is not a member of {project!r}")
            await session.delete(found)

    async def members(self, project: str) -> list[MemberRecord]:
        async with self._database.read() as session:
            owner = await find_project(session, project)
            rows = await session.execute(
                select(User.name, Member.role)
                .join(Member, Member.user_id == User.id)
                .where(Member.project_id == owner.id)
                .order_by(User.name)
            )
            by_hand = [MemberRecord(name, Role(role)) for name, role in rows]
            return sorted(by_hand + await groups.members(session, owner.id), key=lambda item: item.user)


async def _check_idle(session: AsyncSession, project: Project) -> None:
    """What goes on would outlive the project, and leave things to the next one of its name."""
    if await session.scalar(select(App.id).where(App.project_id == project.id).limit(1)) is not None:
        raise Conflict(
            f"the project {project.name!r} has apps", hint="remove them first with `slipway app rm`"
        )
    going_on = select(Build.id).where(Build.project_id == project.id, Build.finished.is_(None)).limit(1)
    if (build := await session.scalar(going_on)) is not None:
        raise Conflict(
            f"the build {build} of the project {project.name!r} has not ended",
            hint=f"wait for it, or `slipway builds cancel {build}`",
        )
