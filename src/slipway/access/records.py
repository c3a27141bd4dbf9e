"""What the rooms above see of accounts and projects: frozen, without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway.access.roles import Role


@dataclass(frozen=True, slots=True)
class UserRecord:
    name: str
    is_admin: bool
    disabled: bool
    created: datetime
    external: bool = False


@dataclass(frozen=True, slots=True)
class ProjectRecord:
    id: int
    name: str
    public: bool
    created: datetime
    used: int
    """Bytes of its images."""


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """``origin`` says who gave the role: a project's admin by ``hand``, or the user's ``groups`` at the provider."""

    user: str
    role: Role
    origin: str = "hand"


@dataclass(frozen=True, slots=True)
class RobotRecord:
    name: str
    role: Role
    repositories: tuple[str, ...]
    expires: datetime | None
    created: datetime


@dataclass(frozen=True, slots=True)
class PersonalTokenRecord:
    name: str
    expires: datetime | None
    created: datetime
