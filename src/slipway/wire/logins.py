"""Logins through a provider, and personal tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from slipway.wire.base import Answer, Request


class DeviceLogin(Answer):
    """Show the address and the code to the person, and ask with ``device_code`` every ``interval`` seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: int
    interval: int


class DevicePoll(Request):
    device_code: str = Field(max_length=4096)


class DeviceAnswer(Answer):
    """``name``, ``token`` and ``expires`` come with ``done``."""

    state: Literal["pending", "slow_down", "done"]
    name: str = ""
    token: str = ""
    expires: datetime | None = None


class NewPersonalToken(Request):
    name: str
    days: int | None = Field(default=90, ge=1, le=3650, description="null: does not expire")


class PersonalToken(Answer):
    name: str
    expires: datetime | None
    created: datetime


class PersonalTokenSecret(Answer):
    """The secret is shown this once; it stands for the password of ``login``."""

    login: str
    secret: str
    expires: datetime | None
