"""Robots: accounts of programs in one project, with a role and an expiry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select

from slipway.access import passwords
from slipway.access.records import RobotRecord
from slipway.access.roles import Role
from slipway.access.rows import check_name, find_project, insert
from slipway.base.clock import now
from slipway.errors import NotFound
from slipway.state import Database
from slipway.state.tables import Robot

ROBOT_LIFETIME = timedelta(days=30)


class Robots:
    """The robots of all projects."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
            owner = await find_project(session, project)
        row = Robot(
            project_id=owner.id,
            name=name,
            role=role.value,
            repositories=list(repositories),
            secret_hash=passwords.hash_secret(secret),
            expires=expires,
            created=now(),
        )
        await insert(self._database, row, f"the robot {name!r} exists already in {project!r}")
        return f"robot${project}+{name}", secret, expires

    async def robots(self, project: str) -> list[RobotRecord]:
        async with self._database.read() as session:
            owner = await find_project(session, project)
            rows = await session.scalars(
                select(Robot).where(Robot.project_id == owner.id).order_by(Robot.name)
            )
            return [
                RobotRecord(row.name, Role(row.role), tuple(row.repositories), row.expires, row.created)
                for row in rows
            ]

    async def delete_robot(self, project: str, name: str) -> None:
        async with self._database.session() as session:
            owner = await find_project(session, project)
            row = await session.scalar(select(Robot).where(Robot.project_id == owner.id, Robot.name == name))
            if row is None:
                raise NotFound(f"there is no robot {name!r} in {project!r}")
            await session.delete(row)
