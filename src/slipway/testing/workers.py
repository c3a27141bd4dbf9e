"""Builds by workers as they are in Pods, each a process of this machine, without a cluster around them. Needs root."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

import slipway
from slipway.access import SYSTEM
from slipway.api.platform import create_app
from slipway.app import sockets
from slipway.app.http import HttpProtocol
from slipway.app.machine import Machine, make_machine
from slipway.app.platform import DEFAULT_PROJECT, Platform
from slipway.app.settings import Settings
from slipway.base.ids import new_id
from slipway.base.progress import Event
from slipway.build.builders import KUBERNETES, BuilderRecord
from slipway.build.making import JobRequest
from slipway.build.pods.builder import NoRoom, Place, admitted
from slipway.build.pods.desk import Desk, Seat, Ticket, WorkerLost, WorkerRefused
from slipway.build.pods.forms import REFUSED
from slipway.build.request import Built, SolveRequest
from slipway.build.solve import Reporter
from slipway.oci import Platform as OciPlatform
from slipway.oci import Reference
from slipway.snapshots import RootView

_POLL = 0.05
WITHOUT_NAMESPACES = [
    "unshare", "--user", "--map-root-user", "sh", "-c",
    'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', "sh",
]  # fmt: skip
"""What to run a program with, so that it and all below it can make no user namespace."""


def interpreter() -> tuple[str, dict[str, str]]:
    """A Python that a user namespace can read, and how it finds our packages: a private home's it cannot."""
    system = Path("/usr/bin/python3")
    readable = Path(sys.executable).resolve().is_relative_to("/usr") or not system.exists()
    path = f"{Path(slipway.__file__).parents[1]}:{sysconfig.get_path('purelib')}"
    return (sys.executable if readable else str(system)), {"PYTHONPATH": path, "PATH": os.environ["PATH"]}


@dataclass(slots=True)
class Process:
    """One worker that was started. ``keys`` is the directory that it reads its token from."""

    process: asyncio.subprocess.Process
    ticket: Ticket
    keys: Path
    node: str = "here"

    async def seat(self) -> Seat:
        return await asyncio.shield(self.ticket.seat)

    async def ended(self) -> None:
        code = await self.process.wait()
        kind = WorkerRefused if code == REFUSED else WorkerLost
        raise kind(f"the worker ended with {code}")


@dataclass(slots=True)
class Processes:
    """Starts workers as processes; ``all`` are those that there were, ``places`` what they were started for.

    ``namespaces``: whether they are where user namespaces may be made. ``full``: the projects that have no room.
    """

    directory: Path
    server: str
    all: list[Process] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    namespaces: bool = True
    kept: Path | None = None
    full: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def started(self, place: Place, desk: Desk, reporter: Reporter) -> AsyncIterator[Process]:
        if place.project in self.full:
            raise NoRoom("no room")
        home = self.directory / new_id()
        keys, work = home / "keys", home / "work"
        for path in (keys, work):
            path.mkdir(parents=True)
        async with admitted(desk) as ticket:
            (keys / "server").write_text(self.server)
            (keys / "token").write_text(ticket.token)
            keys.chmod(0o700)
            program, environment = interpreter()
            self.places.append(place)
            around = [] if self.namespaces or place.in_place else WITHOUT_NAMESPACES
            more = ["--in-place"] if place.in_place else []
            more += ["--cache", str(self.kept), "--slot", "77"] if self.kept and place.keeps else []
            process = await asyncio.create_subprocess_exec(
                *around, program, "-m", "slipway.build.pod", "--keys", keys, "--work", work, *more,
                env=environment, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            found = Process(process, ticket, keys)
            self.all.append(found)
            try:
                yield found
            finally:
                if process.returncode is None:
                    process.terminate()
                await process.wait()
                await asyncio.to_thread(shutil.rmtree, home, True)


@dataclass(slots=True)
class Yard:
    """A platform in this process whose builds are done by workers beside it."""

    platform: Platform
    machine: Machine
    workers: Processes
    events: list[dict[str, Any]] = field(default_factory=list)

    async def build(self, context: Path, *tags: str, project: str = DEFAULT_PROJECT, **values: Any) -> Built:
        """Build a directory; ``values`` are those of ``SolveRequest``. ``events`` are then the build's."""
        self.events.clear()
        request = JobRequest(
            project, "", "web", "root", f"{project}/web", tags or ("latest",),
            SolveRequest("", context, **values), builder=BuilderRecord(KUBERNETES, KUBERNETES, ""),
        )  # fmt: skip
        images = self.platform._images_of(SYSTEM, False, {}, project)
        return await self.platform.jobs.run(request, images, self._progress)

    def _progress(self, event: Event) -> None:
        self.events.append(dict(event))

    @property
    def log(self) -> str:
        return "\n".join(event["text"] for event in self.events if event["event"] == "build.log")

    @property
    def ran(self) -> list[str]:
        """The steps that had to be done."""
        return [e["name"] for e in self.events if e["event"] == "build.step.done" and not e["cached"]]

    async def root(self, built: Built) -> RootView:
        """The image's root, as this server has it."""
        images = self.platform._images_of(SYSTEM, False, {}, DEFAULT_PROJECT)
        reference = Reference.parse(f"{DEFAULT_PROJECT}/web@{built.digest}")
        image = await images.resolve(reference, OciPlatform.host())
        chain = await asyncio.to_thread(self.machine.snapshots.ensure, image.layers)
        return self.machine.snapshots.view(chain)


@asynccontextmanager
async def yard(settings: Settings) -> AsyncIterator[Yard]:
    """Open for the block. ``settings`` must listen at an address that is free."""
    # Not below a directory of root's alone: in their namespace the workers are somebody else.
    directory = Path(tempfile.mkdtemp(prefix="slipway-workers-", dir="/var/tmp"))
    directory.chmod(0o711)
    workers = Processes(directory, f"http://{settings['listen']}")
    machine = await make_machine(settings)
    platform = Platform(settings, machine, workers)
    await platform.open()
    listener = sockets.listen(settings["listen"])
    app = create_app(platform.services())
    server = sockets.Server(
        uvicorn.Config(app, http=HttpProtocol, timeout_graceful_shutdown=5, **sockets.COMMON)
    )
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield Yard(platform, machine, workers)
    finally:
        await platform.close()
        server.should_exit = True
        await serving
        await asyncio.to_thread(shutil.rmtree, directory, True)
