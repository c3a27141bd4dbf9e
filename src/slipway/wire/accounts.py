"""Logins, users, projects, members and robots."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from slipway.wire.base import MOST_BYTES, MOST_COUNT, MOST_SECONDS, Answer, Request

RoleName = Literal["admin", "developer", "guest"]


class Login(Request):
    name: str
    password: str


class Token(Answer):
    token: str
    expires: datetime


class Me(Answer):
    name: str
    kind: str
    is_admin: bool


class NewUser(Request):
    name: str
    password: str
    is_admin: bool = False


class Password(Request):
    password: str


class User(Answer):
    name: str
    is_admin: bool
    disabled: bool
    created: datetime
    external: bool = False


class NewProject(Request):
    name: str
    public: bool = False


class Project(Answer):
    name: str
    public: bool
    created: datetime


class BuildPolicy(Request):
    """What a project's builds may use; null is the server's own setting. See ``slipway.build.policy``."""

    cpus: float | None = Field(default=None, gt=0, le=MOST_COUNT)
    memory: int | None = Field(default=None, gt=0, le=MOST_BYTES, description="bytes")
    pids: int | None = Field(default=None, gt=0, le=MOST_COUNT)
    disk: int | None = Field(default=None, gt=0, le=MOST_BYTES, description="bytes that one step may write")
    seconds: float | None = Field(default=None, gt=0, le=MOST_SECONDS)
    parallel: int = Field(
        default=0, ge=0, le=MOST_COUNT, description="builds at the same time; 0: no limit of its own"
    )
    priority: int = Field(default=0, ge=-100, le=100)
    allow: list[str] = Field(default_factory=list, description="network.host, security.insecure, device=NAME")


class AppPolicy(Request):
    """What a project's apps may have beyond ordinary containers. See ``slipway.delivery.policy``."""

    capabilities: list[str] = Field(
        default_factory=list, max_length=64, description="for cap_add; ALL is each"
    )


class SigningKey(Answer):
    """What a project's images are signed with, as PEM."""

    public: str


class SetMember(Request):
    role: RoleName


class Member(Answer):
    """``origin``: given by ``hand``, or by the user's ``groups`` at the provider."""

    user: str
    role: RoleName
    origin: str = "hand"


class NewRobot(Request):
    name: str
    role: RoleName = "developer"
    repositories: list[str] = Field(
        default_factory=list, description="patterns, without the project; none: all"
    )
    days: int | None = Field(default=30, ge=1, le=3650, description="null: does not expire")


class Robot(Answer):
    name: str
    role: RoleName
    repositories: list[str] = Field(default_factory=list)
    expires: datetime | None
    created: datetime


class RobotSecret(Answer):
    """The secret is shown this once."""

    login: str
    secret: str
    expires: datetime | None
