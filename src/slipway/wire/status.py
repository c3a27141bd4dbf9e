"""How the platform is."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from slipway.wire.base import Answer


class Authority(Answer):
    """What clients trust where the server's certificate comes from itself, as PEM."""

    certificate: str


class Status(Answer):
    version: str
    ready: bool
    started: datetime
    pid: int
    api: str
    url: str = ""
    apps_address: str
    data: str
    runtime: str
    apps: int
    containers: int
    builds_running: int
    warnings: list[str] = Field(default_factory=list)
