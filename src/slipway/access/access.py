"""The questions asked of accounts and projects: who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from slipway.access import groups
from slipway.access.accounts import Accounts
from slipway.access.audit import AuditLog
from slipway.access.identity import Identity
from slipway.access.personal_tokens import PersonalTokens
from slipway.access.projects import Projects
from slipway.access.records import ProjectRecord
from slipway.access.robots import Robots
from slipway.access.roles import Permission, Role, permissions_of
from slipway.access.sessions import Sessions
from slipway.access.tokens import RegistryTokens
from slipway.errors import Denied, NotFound
from slipway.state import Database
from slipway.state.tables import Member, Project


class Access(Accounts, Sessions, Projects, Robots):
    """The one place that decides who somebody is and what they may do."""

    def __init__(self, database: Database, keys: Path, service: str = "slipway-registry") -> None:
        personal_tokens = PersonalTokens(database)
        Accounts.__init__(self, database, AuditLog(database), personal_tokens)
        Sessions.__init__(self, database, personal_tokens)
        Projects.__init__(self, database)
        Robots.__init__(self, database)
        self.tokens = RegistryTokens(keys, service)

    async def permissions(self, identity: Identity, project: str) -> frozenset[Permission]:
        """Everything ``identity`` may do in ``project``; empty for a project that does not exist."""
        async with self._database.read() as session:
            row = await session.scalar(select(Project).where(Project.name == project))
            if row is None:
                return frozenset()
            if identity.is_admin:
                return frozenset(Permission)
            granted = permissions_of(Role.GUEST) if row.public else frozenset()
            if identity.kind == "robot" and identity.project == project:
                granted |= permissions_of(Role(identity.role))
            if identity.kind == "user":
                member = await session.get(Member, (row.id, identity.id))
                granted |= permissions_of(Role(member.role) if member else None)
                granted |= await groups.permissions(session, row.id, identity.id)
        return granted

    async def require(self, identity: Identity, project: str, permission: Permission) -> ProjectRecord:
        """The project, if ``identity`` may do this in it.

        Raises ``NotFound`` when it does not exist or may not be seen, ``Denied`` (and audits it) otherwise.
        """
        granted = await self.permissions(identity, project)
        if Permission.VIEW not in granted:
            if identity.is_admin:
                raise NotFound(f"there is no project {project!r}", hint=f"`slipway project create {project}`")
            await self.audit(identity, permission.value, project, project=project, allowed=False)
            raise NotFound(f"there is no project {project!r}", hint="or you are not a member of it")
        if permission not in granted:
            await self.audit(identity, permission.value, project, project=project, allowed=False)
            raise Denied(
                f"{identity.name} may not {permission} in the project {project!r}",
                hint="a project admin can change your role",
            )
        return await self.project(project)

    async def require_admin(self, identity: Identity, action: str) -> None:
        if not identity.is_admin:
            await self.audit(identity, action, "platform", allowed=False)
            raise Denied(f"{identity.name} may not {action}", hint="this needs an administrator")

    async def audit(
        self,
        identity: Identity,
        action: str,
        target: str,
        *,
        project: str = "",
        allowed: bool = True,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """An event of its own; see ``AuditLog.add``."""
        await self.audit_log.add(identity, action, target, project=project, allowed=allowed, detail=detail)
