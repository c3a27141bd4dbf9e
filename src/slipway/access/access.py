"""Accounts, projects and the questions asked of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access import groups, passwords
from slipway.access.attempts import Attempts
from slipway.access.audit import AuditLog
from slipway.access.identity import Identity
from slipway.access.personal_tokens import PersonalTokens
from slipway.access.records import MemberRecord, ProjectRecord, RobotRecord, UserRecord
from slipway.access.roles import Permission, Role, permissions_of
from slipway.access.tokens import RegistryTokens
from slipway.base.clock import now
from slipway.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from slipway.state import Database, replace
from slipway.state.tables import AuditEvent, LoginSession, Member, Project, Robot, User

SESSION_LIFETIME = timedelta(days=30)
ROBOT_LIFETIME = timedelta(days=30)
SessionUse = Literal["login", "refresh"]
_PREFIXES: dict[SessionUse, str] = {"login": "sws", "refresh": "swt"}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


def check_name(text: str, what: str) -> str:
    """Names of users, projects and robots are also DNS labels and path components."""
    if not _NAME.fullmatch(text):
        raise Invalid(
            f"not a {what} name: {text[:100]!r}",
            hint="use 1 to 40 lower-case letters, digits and inner '-'",
        )
    return text


class Access:
    """The one place that decides who somebody is and what they may do."""

    def __init__(self, database: Database, keys: Path, service: str = "slipway-registry") -> None:
        self._database = database
        self.tokens = RegistryTokens(keys, service)
        self.personal_tokens = PersonalTokens(database)
        self.audit_log = AuditLog(database)
        self.attempts = Attempts()
        self.on_policy: list[Callable[[str], None]] = []
        """Told the name of each project whose settings this process has changed."""

    # Users

    async def create_user(self, name: str, password: str, *, is_admin: bool = False) -> UserRecord:
        check_name(name, "user")
        row = User(
            name=name,
            password_hash=await passwords.hash_password(password),
            is_admin=is_admin,
            disabled=False,
            created=now(),
        )
        await self._insert(row, f"the user {name!r} exists already")
        return _user(row)

    async def users(self) -> list[UserRecord]:
        async with self._database.read() as session:
            return [_user(row) for row in await session.scalars(select(User).order_by(User.name))]

    async def set_password(self, name: str, password: str) -> None:
        """Also ends every login of that user."""
        hashed = await passwords.hash_password(password)
        async with self._database.session() as session:
            row = await _find_user(session, name)
            if row.external_subject:
                raise Conflict(f"{name} logs in at {row.external_issuer}", hint="the password is kept there")
            row.password_hash = hashed
            await session.execute(delete(LoginSession).where(LoginSession.user_id == row.id))

    async def delete_user(self, name: str) -> None:
        async with self._database.session() as session:
            await session.delete(await _find_user(session, name))

    async def authenticate(self, name: str, secret: str, address: str = "") -> Identity:
        """Who logs in with ``name`` (a user, or ``robot$PROJECT+NAME``) from ``address``.

        ``secret`` is the user's password or one of the user's personal tokens, or the robot's secret. Raises
        ``Unauthenticated``, and ``Exhausted`` after too many wrong passwords.
        """
        self.attempts.check(name, address)
        try:
            found = await self._authenticated(name, secret)
        except Unauthenticated:
            self.attempts.failed(name, address)
            claimed = Identity(name[:100], "anonymous")
            await self.audit(claimed, "login", name[:100], allowed=False, detail={"address": address})
            raise
        self.attempts.succeeded(name, address)
        return found

    async def _authenticated(self, name: str, secret: str) -> Identity:
        if name.startswith("robot$"):
            return await self._authenticate_robot(name, secret)
        if self.personal_tokens.looks_like(secret):
            return await self.personal_tokens.check(secret, name)
        async with self._database.read() as session:
            row = await session.scalar(select(User).where(User.name == name))
        if not await passwords.password_matches(secret, row.password_hash if row else None):
            raise Unauthenticated("the name or the password is wrong")
        if row is None or row.disabled:
            raise Unauthenticated("the name or the password is wrong")
        return Identity(row.name, "user", row.id, row.is_admin)

    async def _authenticate_robot(self, name: str, secret: str) -> Identity:
        project, _, robot = name.removeprefix("robot$").partition("+")
        async with self._database.read() as session:
            found = (
                await session.execute(
                    select(Robot, Project).join(Project).where(Project.name == project, Robot.name == robot)
                )
            ).first()
        if found is None or not passwords.secret_matches(secret, found[0].secret_hash):
            raise Unauthenticated("the robot's name or secret is wrong")
        row = found[0]
        if row.expires is not None and row.expires < now():
            raise Unauthenticated(f"the robot {robot!r} expired", hint="a project admin can make a new one")
        return _robot(name, project, row)

    async def identity_of(self, name: str) -> Identity:
        """The user or robot that a token we signed names. Raises ``Unauthenticated`` when it is gone."""
        async with self._database.read() as session:
            if name.startswith("robot$"):
                project, _, robot = name.removeprefix("robot$").partition("+")
                found = (
                    await session.execute(
                        select(Robot).join(Project).where(Project.name == project, Robot.name == robot)
                    )
                ).scalar()
                if found is not None:
                    return _robot(name, project, found)
            row = await session.scalar(select(User).where(User.name == name))
        if row is None or row.disabled:
            raise Unauthenticated(f"there is no account {name!r} any more")
        return Identity(row.name, "user", row.id, row.is_admin)

    # Logins of the command line and the console

    async def open_session(
        self, identity: Identity, use: SessionUse = "login", lifetime: timedelta = SESSION_LIFETIME
    ) -> tuple[str, datetime]:
        """A new token for a user who has just authenticated; only its hash is kept.

        One for ``refresh`` opens nothing by itself: registry clients get short-lived tokens for it.
        """
        if identity.kind != "user":
            raise Denied("only users can log in", hint="robots use their secret with docker login")
        if identity.by_token:
            raise Denied("a token is no login", hint="SLIPWAY_TOKEN=… is for it, and docker login")
        token, expires = passwords.new_secret(_PREFIXES[use]), now() + lifetime
        row = LoginSession(
            token_hash=passwords.hash_secret(token), user_id=identity.id, created=now(), expires=expires
        )
        await self._insert(row, "the login exists already")
        return token, expires

    async def check_session(self, token: str, use: SessionUse = "login") -> Identity:
        """Whose login this is, or personal token in its place.

        Raises ``Unauthenticated``, also for a token that was made for another use.
        """
        if use == "login" and self.personal_tokens.looks_like(token):
            return await self.personal_tokens.check(token)
        if not token.startswith(f"{_PREFIXES[use]}_"):
            raise Unauthenticated("the login is not valid", hint="run `slipway login` again")
        async with self._database.read() as session:
            row = (
                await session.execute(
                    select(LoginSession, User)
                    .join(User, User.id == LoginSession.user_id)
                    .where(LoginSession.token_hash == passwords.hash_secret(token))
                )
            ).first()
        if row is None or row[0].expires < now() or row[1].disabled:
            raise Unauthenticated("the login is not valid any more", hint="run `slipway login` again")
        return Identity(row[1].name, "user", row[1].id, row[1].is_admin)

    async def close_session(self, token: str) -> None:
        async with self._database.session() as session:
            await session.execute(
                delete(LoginSession).where(LoginSession.token_hash == passwords.hash_secret(token))
            )

    # Projects and members

    async def create_project(self, name: str, *, public: bool = False, owner: str = "") -> ProjectRecord:
        """``owner`` becomes the project's first admin."""
        check_name(name, "project")
        row = Project(name=name, public=public, policy={}, created=now())
        await self._insert(row, f"the project {name!r} exists already")
        if owner:
            await self.set_member(name, owner, Role.ADMIN)
        return _project(row)

    async def project(self, name: str) -> ProjectRecord:
        async with self._database.read() as session:
            return _project(await _find_project(session, name))

    async def projects(self, identity: Identity) -> list[ProjectRecord]:
        """The projects ``identity`` may see, and pull from: every role may."""
        async with self._database.read() as session:
            rows = list(await session.scalars(select(Project).order_by(Project.name)))
            if identity.is_admin:
                return [_project(row) for row in rows]
            mine = set(
                await session.scalars(select(Member.project_id).where(Member.user_id == identity.id))
                if identity.kind == "user"
                else ()
            )
            if identity.kind == "user":
                mine |= await groups.projects(session, identity.id)
        return [_project(row) for row in rows if row.public or row.id in mine or row.name == identity.project]

    async def policy(self, project: str, section: str) -> dict[str, Any]:
        """What was set for one part of the platform in this project; empty where nothing was."""
        async with self._database.read() as session:
            found: dict[str, Any] = (await _find_project(session, project)).policy.get(section) or {}
        return found

    async def set_policy(self, project: str, section: str, values: Mapping[str, Any]) -> None:
        async with self._database.session() as session:
            row = await _find_project(session, project)
            row.policy = {**row.policy, section: dict(values)}
        self._policy_changed(project)

    def _policy_changed(self, project: str) -> None:
        for tell in self.on_policy:
            tell(project)

    async def delete_project(self, name: str) -> None:
        async with self._database.session() as session:
            await session.delete(await _find_project(session, name))
        self._policy_changed(name)

    async def set_member(self, project: str, user: str, role: Role) -> None:
        async with self._database.session() as session:
            owner, row = await _find_project(session, project), await _find_user(session, user)
            await replace(session, Member, project_id=owner.id, user_id=row.id, role=role.value)

    async def remove_member(self, project: str, user: str) -> None:
        async with self._database.session() as session:
            owner, row = await _find_project(session, project), await _find_user(session, user)
            found = await session.get(Member, (owner.id, row.id))
            if found is None:
                raise NotFound(f"{user!r} is not a member of {project!r}")
            await session.delete(found)

    async def members(self, project: str) -> list[MemberRecord]:
        async with self._database.read() as session:
            owner = await _find_project(session, project)
            rows = await session.execute(
                select(User.name, Member.role)
                .join(Member, Member.user_id == User.id)
                .where(Member.project_id == owner.id)
                .order_by(User.name)
            )
            by_hand = [MemberRecord(name, Role(role)) for name, role in rows]
            return sorted(by_hand + await groups.members(session, owner.id), key=lambda item: item.user)

    # Robots

    async def create_robot(
        self, project: str, name: str, role: Role, lifetime: timedelta | None = ROBOT_LIFETIME,
        repositories: Sequence[str] = (),
    ) -> tuple[str, str, datetime | None]:  # fmt: skip
        """Returns the login name, the secret (shown this once) and the expiry.

        ``repositories``: patterns, without the project, of those it is for; none: for all.
        """
        check_name(name, "robot")
        secret = passwords.new_secret("swr")
        expires = now() + lifetime if lifetime else None
        async with self._database.session() as session:
            owner = await _find_project(session, project)
        row = Robot(
            project_id=owner.id,
            name=name,
            role=role.value,
            repositories=list(repositories),
            secret_hash=passwords.hash_secret(secret),
            expires=expires,
            created=now(),
        )
        await self._insert(row, f"the robot {name!r} exists already in {project!r}")
        return f"robot${project}+{name}", secret, expires

    async def robots(self, project: str) -> list[RobotRecord]:
        async with self._database.read() as session:
            owner = await _find_project(session, project)
            rows = await session.scalars(
                select(Robot).where(Robot.project_id == owner.id).order_by(Robot.name)
            )
            return [
                RobotRecord(row.name, Role(row.role), tuple(row.repositories), row.expires, row.created)
                for row in rows
            ]

    async def delete_robot(self, project: str, name: str) -> None:
        async with self._database.session() as session:
            owner = await _find_project(session, project)
            row = await session.scalar(select(Robot).where(Robot.project_id == owner.id, Robot.name == name))
            if row is None:
                raise NotFound(f"there is no robot {name!r} in {project!r}")
            await session.delete(row)

    # Decisions

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
        event = AuditEvent(
            moment=now(),
            actor=identity.name,
            action=action,
            target=target,
            project=project,
            allowed=allowed,
            detail=dict(detail or {}),
        )
        async with self._database.session() as session:
            session.add(event)

    async def _insert(self, row: Any, taken: str) -> None:
        try:
            async with self._database.session() as session:
                session.add(row)
        except IntegrityError as error:
            raise Conflict(taken) from error


async def _find_user(session: AsyncSession, name: str) -> User:
    row = await session.scalar(select(User).where(User.name == name))
    if row is None:
        raise NotFound(f"there is no user {name!r}")
    return row


async def _find_project(session: AsyncSession, name: str) -> Project:
    row = await session.scalar(select(Project).where(Project.name == name))
    if row is None:
        raise NotFound(f"there is no project {name!r}", hint=f"`slipway project create {name}` makes it")
    return row


def _robot(name: str, project: str, row: Robot) -> Identity:
    return Identity(
        name, "robot", row.id, project=project, role=row.role, repositories=tuple(row.repositories)
    )


def _user(row: User) -> UserRecord:
    return UserRecord(row.name, row.is_admin, row.disabled, row.created, bool(row.external_subject))


def _project(row: Project) -> ProjectRecord:
    return ProjectRecord(row.id, row.name, row.public, row.created, row.used)
