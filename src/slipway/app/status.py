"""What a server says of itself: ``slipway status``."""

from __future__ import annotations

import os
from typing import Any

from slipway import __version__
from slipway.app.machine import Machine
from slipway.app.settings import Settings
from slipway.base.clock import now
from slipway.build.jobs import BuildJobs
from slipway.delivery import Apps


class Status:
    """Called for what is so now; ``started`` is when this was made."""

    def __init__(self, settings: Settings, machine: Machine | None, apps: Apps, jobs: BuildJobs) -> None:
        self._settings = settings
        self._machine = machine
        self._apps = apps
        self._jobs = jobs
        self._started = now()

    async def __call__(self) -> dict[str, Any]:
        facts = self._machine.facts if self._machine else None
        containers = self._machine.containers.list() if self._machine else []
        checks = facts.checks if facts else ()
        return {
            "version": __version__,
            "ready": True,
            "started": self._started,
            "pid": os.getpid(),
            "api": self._settings["listen"],
            "url": self._settings.url,
            "apps_address": self._settings["apps.listen"],
            "data": str(self._settings.data),
            "runtime": f"{facts.version}, cgroups {facts.cgroups}" if facts else "none: clusters alone",
            "apps": len(await self._apps.all()),
            "containers": sum(item.running for item in containers),
            "builds_running": self._jobs.running,
            "warnings": [f"{item.name}: {item.detail}" for item in checks if item.status != "ok"],
        }
