"""Other sites, what was replicated with them, and where two of them disagreed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base


class Site(Base):
    """Another registry that ours gives to (``push``) or takes from (``pull``).

    ``cursor`` is the sequence up to which everything was given, or, with another Slipway, the sequence of *its* changes
    up to which everything was taken.
    """

    __tablename__ = "sites"
    name: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    kind: Mapped[str]
    direction: Mapped[str]
    username: Mapped[str] = mapped_column(default="")
    secret: Mapped[str] = mapped_column(default="")
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cursor: Mapped[int] = mapped_column(BigInteger, default=0)
    state: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime]


class ReplicationConflict(Base):
    """A tag that was moved at two sites before either heard of the other; the later move holds."""

    __tablename__ = "replication_conflicts"
    id: Mapped[int] = mapped_column(primary_key=True)
    moment: Mapped[datetime]
    repository: Mapped[str]
    tag: Mapped[str]
    kept: Mapped[str]
    kept_origin: Mapped[str]
    lost: Mapped[str]
    lost_origin: Mapped[str]
