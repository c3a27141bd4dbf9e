"""Apps and their releases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base, FreeText


class App(Base):
    """What a team delivers. ``current_release`` is the number that should be running, if any; ``placement`` says on
    which clusters (``slipway.delivery.placements``)."""

    __tablename__ = "apps"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    current_release: Mapped[int | None]
    state: Mapped[str] = mapped_column(default="active")
    scale: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime]
    placement: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Release(Base):
    """An immutable record of what was delivered; only ``status`` and ``error`` change.

    ``status``: pending, active, superseded, failed. ``images``: service → {reference, digest}. ``digest`` is over
    model and images, so that two deliveries of the same thing are seen to be equal.
    """

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("app_id", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    app_id: Mapped[int] = mapped_column(ForeignKey("apps.id", ondelete="CASCADE"))
    number: Mapped[int]
    created: Mapped[datetime]
    created_by: Mapped[str]
    source_revision: Mapped[str] = mapped_column(default="")
    model: Mapped[dict[str, Any]]
    images: Mapped[dict[str, Any]]
    digest: Mapped[str]
    status: Mapped[str]
    error: Mapped[str | None] = mapped_column(FreeText)
