"""Where work can run besides this machine, and which server of a site leads."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base


class Cluster(Base):
    """``kubeconfig`` is sealed; ``version`` is what the API server said when it was last asked.

    ``prefix``: of the namespaces of apps. ``identity``: tells the cluster itself, whatever it is called here. ``seen``:
    when a server of the platform last found it well.
    """

    __tablename__ = "clusters"
    name: Mapped[str] = mapped_column(primary_key=True)
    server: Mapped[str]
    kubeconfig: Mapped[str]
    version: Mapped[str]
    created: Mapped[datetime]
    prefix: Mapped[str] = mapped_column(default="slipway-")
    identity: Mapped[str] = mapped_column(default="")
    seen: Mapped[datetime | None]


class ClusterProject(Base):
    """A project that may use a cluster. Work is spread over its clusters by ``weight``; 0 gets nothing new."""

    __tablename__ = "cluster_projects"
    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name", ondelete="CASCADE"), primary_key=True)
    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    weight: Mapped[int] = mapped_column(default=1)


class Lease(Base):
    """Who leads in something, until when by the database's clock, and where others reach it (a URL)."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    address: Mapped[str]
    until: Mapped[datetime]
