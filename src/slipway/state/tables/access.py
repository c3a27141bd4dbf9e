"""Who may do what: users, projects, members, robots, logins, and the record of what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base


class User(Base):
    """``external_issuer`` and ``external_subject`` say whom an OpenID provider knows this user as; empty for a user of
    our own. Such a user has no password, and tokens work until ``external_until``."""

    __tablename__ = "users"
    __table_args__ = (
        Index(
            "ix_users_external", "external_issuer", "external_subject", unique=True,
            sqlite_where=text("external_subject != ''"), postgresql_where=text("external_subject != ''"),
        ),
    )  # fmt: skip
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(default=False)
    disabled: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime]
    external_issuer: Mapped[str] = mapped_column(default="", server_default="")
    external_subject: Mapped[str] = mapped_column(default="", server_default="")
    external_until: Mapped[datetime | None]


class Project(Base):
    __tablename__ = "projects"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    public: Mapped[bool] = mapped_column(default=False)
    policy: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created: Mapped[datetime]
    used: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of its images, each blob once."""


class Member(Base):
    __tablename__ = "members"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]


class Robot(Base):
    """A program's account in one project: it expires and holds at most its role's permissions."""

    __tablename__ = "robots"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    name: Mapped[str]
    role: Mapped[str]
    repositories: Mapped[list[Any]] = mapped_column(default=list)
    """Patterns, without the project; none: all of the project's."""
    secret_hash: Mapped[str]
    expires: Mapped[datetime | None]
    created: Mapped[datetime]


class LoginSession(Base):
    """A command line's login: only the hash of its token is stored."""

    __tablename__ = "login_sessions"
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime]
    expires: Mapped[datetime]


class AuditEvent(Base):
    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_when", "moment"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    moment: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    project: Mapped[str] = mapped_column(default="")
    allowed: Mapped[bool] = mapped_column(default=True)
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
