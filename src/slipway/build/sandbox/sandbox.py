"""One sandbox."""

from __future__ import annotations

import asyncio
import base64
import functools
import logging
import os
from pathlib import Path
from typing import Any, Protocol

from slipway.base import capabilities, cgroups, seccomp
from slipway.base.tasks import to_the_end
from slipway.build.sandbox.link import WorkerLink
from slipway.build.sandbox.ranges import IdRange
from slipway.build.sandbox.running import supervise
from slipway.build.sandbox.steps import Limits, NetworkAttacher, Output, RunStep
from slipway.errors import Cancelled, Exhausted, Failed, SlipwayError, Unavailable, Unsupported

log = logging.getLogger(__name__)
_HOST_RESOLVER = Path("/etc/resolv.conf")


class StepGroup(Protocol):
    """What limits a sandbox's steps: ``slipway.base.cgroups.Group``, or a container around all of it."""

    missing: list[str]

    @property
    def entries(self) -> list[str]: ...
    def create(self, limits: cgroups.GroupLimits) -> None: ...
    def oom_kills(self) -> int: ...
    def kill(self) -> None: ...
    def destroy(self) -> None: ...


class Sandbox:
    """A build's worker. Made by ``Sandboxes.open``; ``close`` ends it and everything in it.

    ``nested``: this process is itself in a user namespace, whose ids are the container's own, and the network is that
    of the container around it. ``in_place``: steps have no user namespace of their own.
    """

    def __init__(
        self, build_id: str, ids: IdRange, group: StepGroup, limits: Limits,
        network: NetworkAttacher | None, nested: bool = False, in_place: bool = False,
    ) -> None:  # fmt: skip
        self._in_place = in_place
        self._nested = nested
        self.build_id = build_id
        self.limits = limits
        self._ids = ids
        self._group = group
        self._network = network
        self._attaching = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._resolver: str | None = None
        self._netns = -1
        self._link: WorkerLink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended: SlipwayError | None = None

    @property
    def pid(self) -> int:
        """The worker's process id, or 0."""
        return self._link.pid if self._link else 0

    @property
    def uid_base(self) -> int:
        """The host's id of the container's root."""
        return self._ids.start

    async def start(self) -> None:
        """Start the worker. If it raises, ``close`` has still to be called."""
        limits = cgroups.GroupLimits(self.limits.cpus, self.limits.memory, self.limits.pids)
        # Not cut off: ``close`` removes the group, which must not appear after that.
        await to_the_end(asyncio.to_thread(self._group.create, limits))
        for file in self._group.missing:
            log.warning("build %s: the limit %s cannot be set on this host", self.build_id, file)
        program = await asyncio.to_thread(_filter)
        self._link = await WorkerLink.launch()
        await self._link.ask("start", self._specification(program), [self._ids.lock])
        if self.limits.seconds:
            self._timer = asyncio.get_running_loop().call_later(self.limits.seconds, self._time_is_up)

    def _specification(self, program: str) -> dict[str, Any]:
        return {
            "uid_base": self._ids.start,
            "uid_count": self._ids.count,
            "cgroups": self._group.entries,
            "cgroup2": cgroups.layout() == "v2",
            "capabilities": [capabilities.NUMBERS[name] for name in capabilities.DEFAULT],
            "filter": program,
            "nested": self._nested,
            "in_place": self._in_place,
        }

    def _time_is_up(self) -> None:
        self._end(
            Exhausted(
                f"the build took longer than its limit of {self.limits.seconds:g} seconds",
                hint="raise build.seconds",
            )
        )

    def _end(self, reason: SlipwayError) -> None:
        self._ended = self._ended or reason
        if self._link is not None:
            self._link.kill()

    async def run(self, step: RunStep, output: Output) -> int:
        """Run one process to its end; its exit code, or 128 and the signal that ended it.

        127 and 126 also stand for a command that does not exist or cannot be executed, with the reason on its standard
        error. Raises ``Exhausted`` when it failed for lack of memory or time, ``Failed`` when it could not be set up or
        the worker was lost. Being cancelled kills the step. May be called again while a step runs.
        """
        link = self._usable()
        if step.network == "host" or (self._nested and step.network == "default"):
            specification = step.to_json(_HOST_RESOLVER.read_text()) | {"network": "host"}
        else:
            specification = step.to_json(await self._connected(link) if step.network == "default" else "")
            if self._network is None:
                specification["network"] = "none"
        kills = self._group.oom_kills()
        said = await supervise(functools.partial(link.tell, "step", specification), output)
        if "error" in said:
            raise Failed(f"the step could not be set up: {said['error']}")
        if "status" not in said:
            raise self._ended or Failed("the build worker ended unexpectedly", hint="try again")
        status = int(said["status"])
        if status and self._group.oom_kills() > kills:
            raise Exhausted(
                f"killed: out of memory, the limit is {self.limits.memory >> 20} MiB",
                hint="raise build.memory, or let the step use less, for example by fewer parallel jobs",
            )
        return 128 - status if status < 0 else status

    def _usable(self) -> WorkerLink:
        if self._ended is not None:
            raise self._ended
        if self._link is None:
            raise Unavailable("the build's sandbox was not started")
        return self._link

    async def _connected(self, link: WorkerLink) -> str:
        """Attach the network when it is first needed; the text of /etc/resolv.conf."""
        if self._network is None:
            return ""
        async with self._attaching:
            if self._resolver is None:
                if self._netns < 0:
                    answer = await link.ask("network")
                    # A descriptor of our own, so that there is something to detach when the worker is gone.
                    self._netns = os.open(answer["netns"], os.O_RDONLY | os.O_CLOEXEC)
                self._resolver = await self._network.attach(self._netns_path, self.build_id)
            return self._resolver

    @property
    def _netns_path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self._netns}")

    async def close(self) -> None:
        """Kill everything in the sandbox and remove its group. Idempotent; waits until it is done.

        Being cancelled stops the waiting, not the work.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._ended = self._ended or Cancelled("the build's sandbox was closed")
        if self._timer is not None:
            self._timer.cancel()
        try:
            await asyncio.to_thread(self._group.kill)
            if self._link is not None:
                await self._link.close()
        finally:
            await self._disconnect()
            await asyncio.to_thread(self._group.destroy)
            self._ids.release()

    async def _disconnect(self) -> None:
        if self._netns < 0:
            return
        try:
            if self._network is not None:
                await self._network.detach(self._netns_path, self.build_id)
        except Exception:
            log.exception("build %s: its network could not be detached", self.build_id)
        finally:
            os.close(self._netns)
            self._netns = -1


@functools.cache
def _filter() -> str:
    """The default system call filter for this host, compiled once and handed to every worker."""
    try:
        program = seccomp.compile_profile(seccomp.default_profile(capabilities.DEFAULT))
    except OSError as error:
        raise Unsupported(
            f"builds need libseccomp for their system call filter: {error}",
            hint="install the package libseccomp2 (Debian) or libseccomp",
        ) from error
    return base64.b64encode(program).decode()
