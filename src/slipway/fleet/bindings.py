"""Which projects use which clusters."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.errors import Conflict, Invalid, NotFound
from slipway.fleet.records import Binding
from slipway.state import Database, replace
from slipway.state.tables import App, ClusterProject, Project

MOST_WEIGHT = 1000


class Bindings:
    """Rows of the database; ``Clusters`` is their face."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, cluster: str, project: str, weight: int, *, moves: bool = False) -> Binding:
        """``moves``: without any, the project's apps run on this machine.

        Raises ``NotFound`` for the project, ``Conflict`` when apps that run here would be left behind, ``Invalid``.
        """
        if not 0 <= weight <= MOST_WEIGHT:
            raise Invalid(f"a weight of {weight} is not between 0 and {MOST_WEIGHT}")
        async with self._database.session() as session:
            owner = await session.scalar(select(Project.id).where(Project.name == project))
            if owner is None:
                raise NotFound(f"there is no project {project!r}")
            if moves and weight:
                await _check_none_here(session, owner, project)
            await replace(session, ClusterProject, cluster=cluster, project_id=owner, weight=weight)
        return Binding(cluster, project, weight)

    async def remove(self, cluster: str, project: str) -> None:
        """Raises ``NotFound``."""
        owner = select(Project.id).where(Project.name == project).scalar_subquery()
        query = delete(ClusterProject).where(
            ClusterProject.cluster == cluster, ClusterProject.project_id == owner
        )
        async with self._database.session() as session:
            if not (await session.execute(query.returning(ClusterProject.cluster))).all():
                raise NotFound(
                    f"the project {project!r} does not use the cluster {cluster!r}",
                    hint=f"slipway cluster show {cluster}",
                )

    async def list(self, cluster: str = "", project: str = "") -> Sequence[Binding]:
        query = (
            select(ClusterProject.cluster, Project.name, ClusterProject.weight)
            .join(Project, Project.id == ClusterProject.project_id)
            .order_by(ClusterProject.cluster, Project.name)
        )
        query = query.where(ClusterProject.cluster == cluster) if cluster else query
        query = query.where(Project.name == project) if project else query
        async with self._database.read() as session:
            return [Binding(*row) for row in await session.execute(query)]

    async def users(self, cluster: str) -> Sequence[str]:
        """``shop (2 apps)`` for each project that uses the cluster."""
        query = (
            select(Project.name, func.count(App.id))
            .join(ClusterProject, ClusterProject.project_id == Project.id)
            .outerjoin(App, App.project_id == Project.id)
            .where(ClusterProject.cluster == cluster)
            .group_by(Project.name)
            .order_by(Project.name)
        )
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        return [f"{project} ({count} app{'' if count == 1 else 's'})" for project, count in rows]


async def _check_none_here(session: AsyncSession, owner: int, project: str) -> None:
    """What runs on this machine is unseen once the project has a cluster: nothing of it moves."""
    weights = select(ClusterProject.weight).where(ClusterProject.project_id == owner)
    if any(await session.scalars(weights)):
        return
    rows = await session.execute(
        select(App.name, App.placement).where(App.project_id == owner).order_by(App.name)
    )
    here = [name for name, placement in rows if not placement]
    if here:
        raise Conflict(
            f"apps of the project {project!r} run on this machine, and do not move: {', '.join(here)}",
            hint="slipway app rm each of them, and deliver them again to the cluster",
        )
