"""Repositories by name, and the blobs linked into them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.errors import Invalid, NotFound
from slipway.oci import Digest
from slipway.oci.reference import is_repository
from slipway.state import add_once
from slipway.state.tables import Project, Repository, RepositoryBlob
from slipway.state.upsert import insert


def project_of(name: str) -> str:
    """The project of a repository name. Raises ``Invalid`` for a malformed name, ``NotFound`` for one without."""
    if not is_repository(name):
        raise Invalid(f"not a repository name: {name[:300]!r}")
    project, slash, _ = name.partition("/")
    if not slash:
        raise NotFound(f"the repository {name!r} names no project", hint="repositories are PROJECT/NAME")
    return project


async def find(session: AsyncSession, name: str) -> Repository | None:
    found: Repository | None = await session.scalar(select(Repository).where(Repository.name == name))
    return found


async def require(session: AsyncSession, name: str) -> Repository:
    row = await find(session, name)
    if row is None:
        raise NotFound(f"there is no repository {name!r}")
    return row


async def project(session: AsyncSession, name: str) -> Project:
    """Raises ``NotFound``."""
    row: Project | None = await session.scalar(select(Project).where(Project.name == name))
    if row is None:
        raise NotFound(f"there is no project {name!r}")
    return row


async def ensure(session: AsyncSession, name: str) -> Repository:
    """The repository, made if its project exists. Raises ``NotFound`` for an unknown project."""
    row = await find(session, name)
    if row is not None:
        return row
    project = await session.scalar(select(Project).where(Project.name == project_of(name)))
    if project is None:
        raise NotFound(f"there is no project {project_of(name)!r}")
    await add_once(session, Repository, project_id=project.id, name=name, created=now())
    return await require(session, name)


async def link(session: AsyncSession, repository: Repository, *blobs: tuple[Digest, int]) -> None:
    """Make blobs, each with its size, readable in the repository. Idempotent."""
    moment = now()
    rows = [
        {"repository_id": repository.id, "digest": str(digest), "size": size, "linked": moment}
        for digest, size in dict(blobs).items()
    ]
    if rows:
        await session.execute(insert(session, RepositoryBlob).on_conflict_do_nothing(), rows)
