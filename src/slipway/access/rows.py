"""What the parts of this room share: rows found by name, rows as records, names that are allowed."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access.identity import Identity
from slipway.access.records import ProjectRecord, UserRecord
from slipway.errors import Conflict, Invalid, NotFound
from slipway.state import Database
from slipway.state.tables import Project, Robot, User

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


def check_name(text: str, what: str) -> str:
    """Names of users, projects and robots are also DNS labels and path components."""
    if not _NAME.fullmatch(text):
        raise Invalid(
            f"not a {what} name: {text[:100]!r}",
            hint="use 1 to 40 lower-case letters, digits and inner '-'",
        )
    return text


async def insert(database: Database, row: Any, taken: str) -> None:
    """Raises ``Conflict`` with the message ``taken`` when there is one of that name."""
    try:
        async with database.session() as session:
            session.add(row)
    except IntegrityError as error:
        raise Conflict(taken) from error


async def find_user(session: AsyncSession, name: str) -> User:
    row = await session.scalar(select(User).where(User.name == name))
    if row is None:
        raise NotFound(f"there is no user {name!r}")
    return row


async def find_project(session: AsyncSession, name: str) -> Project:
    row = await session.scalar(select(Project).where(Project.name == name))
    if row is None:
        raise NotFound(f"there is no project {name!r}", hint=f"`slipway project create {name}` makes it")
    return row


def robot_identity(name: str, project: str, row: Robot) -> Identity:
    return Identity(
        name, "robot", row.id, project=project, role=row.role, repositories=tuple(row.repositories)
    )


def user_record(row: User) -> UserRecord:
    return UserRecord(row.name, row.is_admin, row.disabled, row.created, bool(row.external_subject))


def project_record(row: Project) -> ProjectRecord:
    return ProjectRecord(row.id, row.name, row.public, row.created, row.used)
