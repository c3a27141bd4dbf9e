"""Builds, and what their steps left behind for the next one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base, FreeText


class Build(Base):
    """One run of one Dockerfile. States: queued, running, succeeded, failed, cancelled, interrupted."""

    __tablename__ = "builds"
    __table_args__ = (Index("ix_builds_state", "state"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    app: Mapped[str]
    service: Mapped[str]
    owner: Mapped[str]
    state: Mapped[str]
    created: Mapped[datetime]
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    image_digest: Mapped[str | None]
    error: Mapped[str | None] = mapped_column(FreeText)
    limits: Mapped[dict[str, Any]] = mapped_column(default=dict)
    source: Mapped[str]
    log_path: Mapped[str]


class Builder(Base):
    """A Docker daemon that builds for those who ask for it by name; see ``slipway.build.builders``."""

    __tablename__ = "builders"
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    address: Mapped[str]
    tls: Mapped[str] = mapped_column(default="")
    image: Mapped[str] = mapped_column(default="")
    projects: Mapped[list[str]] = mapped_column(JSON, default=list)


class BuildCache(Base):
    """The layer an operation made, by the key of everything that could change it."""

    __tablename__ = "build_cache"
    __table_args__ = (Index("ix_build_cache_used", "used"),)
    key: Mapped[str] = mapped_column(primary_key=True)
    layer_media_type: Mapped[str] = mapped_column(default="")
    layer_digest: Mapped[str] = mapped_column(default="", index=True)
    diff_id: Mapped[str] = mapped_column(default="")
    size: Mapped[int] = mapped_column(BigInteger, default=0)
    uncompressed: Mapped[int] = mapped_column(BigInteger, default=0)
    empty: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime]
    used: Mapped[datetime]
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class BuildLog(Base):
    """A piece of a build's log: whole lines. Pieces are in the order of their numbers."""

    __tablename__ = "build_logs"
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class SigningKey(Base):
    """A project's, by name: it outlives the project. ``sealed`` is the private key's PEM, sealed."""

    __tablename__ = "signing_keys"
    project: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[str]
    created: Mapped[datetime]
