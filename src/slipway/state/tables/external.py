"""What comes from outside: roles that a provider's groups give, and tokens for programs that know passwords only."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from slipway.state.tables.base import Base


class GroupMember(Base):
    """A role that a user has through a group of the provider; written at each login, beside ``members``."""

    __tablename__ = "group_members"
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]


class PersonalToken(Base):
    """Stands for its user's password; only the hash is stored."""

    __tablename__ = "personal_tokens"
    __table_args__ = (UniqueConstraint("user_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    secret_hash: Mapped[str] = mapped_column(unique=True)
    expires: Mapped[datetime | None]
    created: Mapped[datetime]
