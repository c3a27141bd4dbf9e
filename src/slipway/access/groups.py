"""Roles that users have through their groups at an OpenID provider, beside those given by hand."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access.records import MemberRecord
from slipway.access.roles import Permission, Role, permissions_of
from slipway.state.tables import GroupMember, Project, User


async def replace(session: AsyncSession, user: int, roles: Mapping[str, Role]) -> list[str]:
    """Make ``roles`` (by project) all that this user has through groups; the projects among them that are missing."""
    await session.execute(delete(GroupMember).where(GroupMember.user_id == user))
    rows = await session.execute(select(Project.name, Project.id).where(Project.name.in_(list(roles))))
    known = {row.name: row.id for row in rows}
    session.add_all(
        GroupMember(project_id=known[project], user_id=user, role=role.value)
        for project, role in roles.items()
        if project in known
    )
    return sorted(set(roles) - set(known))


async def permissions(session: AsyncSession, project: int, user: int) -> frozenset[Permission]:
    found = await session.get(GroupMember, (project, user))
    return permissions_of(Role(found.role) if found else None)


async def projects(session: AsyncSession, user: int) -> set[int]:
    return set(await session.scalars(select(GroupMember.project_id).where(GroupMember.user_id == user)))


async def members(session: AsyncSession, project: int) -> list[MemberRecord]:
    rows = await session.execute(
        select(User.name, GroupMember.role)
        .join(GroupMember, GroupMember.user_id == User.id)
        .where(GroupMember.project_id == project)
        .order_by(User.name)
    )
    return [MemberRecord(name, Role(role), "groups") for name, role in rows]
