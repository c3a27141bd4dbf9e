"""What a project's images take up: every digest once, however many of its images need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.errors import Denied
from slipway.state.tables import Manifest, ManifestReference, Project, ProjectBlob, Repository
from slipway.state.upsert import insert

_MANY = 500


class QuotaExceeded(Denied):
    """A project's images would take up more than they may."""


async def add(
    session: AsyncSession, project: int, sizes: Mapping[str, int], needed: Mapping[str, int]
) -> int:
    """Count these digests, each for as many manifests more as need it; the bytes that the project uses now."""
    # The project's row first: whoever else counts in this project waits here, and nobody in another one does.
    # Nothing that this session has loaded of it depends on what is counted.
    mine = update(Project).where(Project.id == project).execution_options(synchronize_session=False)
    await session.execute(mine.values(used=Project.used))
    names = list(sizes)
    known: set[str] = set()
    for first in range(0, len(names), _MANY):
        some = names[first : first + _MANY]
        query = select(ProjectBlob.digest).where(
            ProjectBlob.project_id == project, ProjectBlob.digest.in_(some)
        )
        known.update(await session.scalars(query))
    statement = insert(session, ProjectBlob)
    statement = statement.on_conflict_do_update(
        index_elements=["project_id", "digest"], set_={"count": ProjectBlob.count + statement.excluded.count}
    )
    rows = [
        {"project_id": project, "digest": digest, "size": size, "count": needed[digest]}
        for digest, size in sizes.items()
    ]
    await session.execute(statement, rows)
    new = sum(size for digest, size in sizes.items() if digest not in known)
    counted = mine.values(used=Project.used + new)
    return int((await session.execute(counted.returning(Project.used))).scalar_one())


async def remove(session: AsyncSession, manifests: ColumnElement[bool]) -> int:
    """Take away what the manifests of this condition need, which are about to be removed; the bytes that freed."""
    needed = (
        select(Repository.project_id, Manifest.digest)
        .join(Repository, Repository.id == Manifest.repository_id)
        .where(manifests)
        .union_all(
            select(Repository.project_id, ManifestReference.digest)
            .join(Manifest, Manifest.id == ManifestReference.manifest_id)
            .join(Repository, Repository.id == Manifest.repository_id)
            .where(manifests)
        )
        .subquery()
    )
    counted = select(needed.c.project_id, needed.c.digest, func.count()).group_by(*needed.c)
    rows = [
        {"p": project, "d": digest, "n": count} for project, digest, count in await session.execute(counted)
    ]
    if not rows:
        return 0
    projects = select(Project.id).where(Project.id.in_({row["p"] for row in rows})).order_by(Project.id)
    await session.execute(projects.with_for_update())  # as everybody does who counts: the project first
    connection = await session.connection()
    mine = ProjectBlob.project_id == bindparam("p"), ProjectBlob.digest == bindparam("d")
    fewer = update(ProjectBlob).where(*mine).values(count=ProjectBlob.count - bindparam("n"))
    await connection.execute(fewer, rows)
    freed = 0
    for project in sorted({row["p"] for row in rows}):
        names = [row["d"] for row in rows if row["p"] == project]
        size = 0
        for first in range(0, len(names), _MANY):
            size += await _forget(session, project, names[first : first + _MANY])
        await session.execute(update(Project).where(Project.id == project).values(used=Project.used - size))
        freed += size
    return freed


async def _forget(session: AsyncSession, project: int, digests: Sequence[str]) -> int:
    """Those that no manifest of the project needs any more; their bytes."""
    unneeded = (
        ProjectBlob.project_id == project,
        ProjectBlob.digest.in_(digests),
        ProjectBlob.count <= 0,
    )
    size = await session.scalar(select(func.sum(ProjectBlob.size)).where(*unneeded))
    await session.execute(delete(ProjectBlob).where(*unneeded))
    return int(size or 0)


def check(project: str, used: int, quota: int | None) -> None:
    """Raises ``QuotaExceeded``."""
    if quota is not None and used > quota:
        raise QuotaExceeded(
            f"the quota of the project {project!r} is {quota} bytes; this would make it {used}",
            hint="remove images (slipway image rm --now), or ask an administrator for more",
        )
