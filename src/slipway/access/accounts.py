"""Users: made, listed, and who somebody is that logs in by a name and a secret."""

from __future__ import annotations

import asyncio

from sqlalchemy import delete, select

from slipway.access import passwords
from slipway.access.attempts import Attempts
from slipway.access.audit import AuditLog
from slipway.access.identity import ANONYMOUS, Identity
from slipway.access.personal_tokens import PersonalTokens
from slipway.access.records import UserRecord
from slipway.access.rows import check_name, find_user, insert, robot_identity, user_record
from slipway.base.clock import now
from slipway.errors import Conflict, Unauthenticated
from slipway.state import Database
from slipway.state.tables import LoginSession, Project, Robot, User

_AT_ONCE = 4  # passwords that are looked at: each takes a thread, 19 MiB and a processor, by design


class Accounts:
    """The users of a platform, and the robots as far as they log in."""

    def __init__(self, database: Database, audit_log: AuditLog, personal_tokens: PersonalTokens) -> None:
        self._database = database
        self.audit_log = audit_log
        self.personal_tokens = personal_tokens
        self.attempts = Attempts()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def create_user(self, name: str, password: str, *, is_admin: bool = False) -> UserRecord:
        check_name(name, "user")
        row = User(
            name=name,
            password_hash=await passwords.hash_password(password),
            is_admin=is_admin,
            disabled=False,
            created=now(),
        )
        await insert(self._database, row, f"the user {name!r} exists already")
        return user_record(row)

    async def users(self) -> list[UserRecord]:
        async with self._database.read() as session:
            return [user_record(row) for row in await session.scalars(select(User).order_by(User.name))]

    async def set_password(self, name: str, password: str) -> None:
        """Also ends every login of that user."""
        hashed = await passwords.hash_password(password)
        async with self._database.session() as session:
            row = await find_user(session, name)
            if row.external_subject:
                raise Conflict(f"{name} logs in at {row.external_issuer}", hint="the password is kept there")
            row.password_hash = hashed
            await session.execute(delete(LoginSession).where(LoginSession.user_id == row.id))

    async def delete_user(self, name: str) -> None:
        async with self._database.session() as session:
            await session.delete(await find_user(session, name))

    async def authenticate(self, name: str, secret: str, address: str = "") -> Identity:
        """Who logs in with ``name`` (a user, or ``robot$PROJECT+NAME``) from ``address``.

        ``secret`` is the user's password or one of the user's personal tokens, or the robot's secret. Raises
        ``Unauthenticated``, and ``Exhausted`` after too many wrong passwords.
        """
        self.attempts.check(name, address)
        try:
            found = await self._authenticated(name, secret, address)
        except Unauthenticated:
            self.attempts.failed(name, address)
            claimed = Identity(name[:100], "anonymous")
            await self.audit_log.add(claimed, "login", name[:100], allowed=False, detail={"address": address})
            raise
        self.attempts.succeeded(name, address)
        return found

    async def _authenticated(self, name: str, secret: str, address: str) -> Identity:
        if name.startswith("robot$"):
            return await self._authenticate_robot(name, secret)
        if self.personal_tokens.looks_like(secret):
            return await self.personal_tokens.check(secret, name)
        async with self._database.read() as session:
            row = await session.scalar(select(User).where(User.name == name))
        async with self._turns:
            self.attempts.check(name, address)  # again: who guesses many at once has failed meanwhile
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
        return robot_identity(name, project, row)

    async def identity_of(self, name: str) -> Identity:
        """The user or robot that a token we signed names. Raises ``Unauthenticated`` when it is gone."""
        if name == ANONYMOUS.name:  # whom tokens without a login are for, even if a user has that name
            raise Unauthenticated("the token is nobody's", hint="log in to get one")
        async with self._database.read() as session:
            if name.startswith("robot$"):
                project, _, robot = name.removeprefix("robot$").partition("+")
                found = (
                    await session.execute(
                        select(Robot).join(Project).where(Project.name == project, Robot.name == robot)
                    )
                ).scalar()
                if found is not None:
                    return robot_identity(name, project, found)
            row = await session.scalar(select(User).where(User.name == name))
        if row is None or row.disabled:
            raise Unauthenticated(f"there is no account {name!r} any more")
        return Identity(row.name, "user", row.id, row.is_admin)
