"""How the platform is."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from slipway.wire.base import Answer


class Status(Answer):
    version: str
    ready: bool
    started: datetime
    pid: int
    api: str
    apps_address: str
    data: str
    runtime: str
    apps: int
    containers: int
    builds_running: int
    warnings: list[str] = Field(default_factory=list)
