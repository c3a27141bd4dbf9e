"""The life of one container: what is asked for, and what happens by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from slipway.base.tasks import to_the_end
from slipway.errors import NotFound, SlipwayError
from slipway.runtime import health
from slipway.runtime.conmon import Monitor, start_time
from slipway.runtime.parts import Parts
from slipway.runtime.record import Container
from slipway.runtime.restart import delay_before_restart, ran_stably

log = logging.getLogger(__name__)
_UNKNOWN = 255
_KILL_SECONDS = 10


class Life:
    """Made with a record, new or found again; then ``create`` or ``resume``; at last ``remove``, or ``let_go`` when
    the server ends. One step at a time: what is asked for waits for the step that is under way.
    """

    def __init__(self, record: Container, parts: Parts, monitor: Monitor) -> None:
        self.record = record
        self._parts = parts
        self._monitor = monitor
        self._step = asyncio.Lock()
        self._changed = asyncio.Event()
        self._attempts = 0  # to start it again since it last ran stably
        self._restart: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def wait(self, done: Callable[[Container], bool], timeout: float) -> bool:
        """Whether ``done`` holds for the record within ``timeout`` seconds. Raises ``NotFound`` once removed."""
        try:
            async with asyncio.timeout(timeout):
                while not done(self._existing()):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    # Asked for

    async def create(self) -> None:
        """Everything but starting: the parts, and the process that waits. Leaves nothing behind on failure."""
        try:
            self._parts.save(self.record)
            await self._parts.build(self.record)
            await to_the_end(self._launch())
            self.record.state = "created"
            self._parts.save(self.record)
        except BaseException:
            await asyncio.shield(self._take_apart())
            raise

    async def start(self) -> None:
        """Idempotent: a running container stays as it is."""
        async with self._step:
            self._existing().wanted = True
            self._cancel_restart()
            await self._start()

    async def stop(self, timeout: float | None = None) -> None:
        """The stop signal, then after ``timeout`` seconds SIGKILL. Idempotent; no restart follows."""
        async with self._step:
            record = self._existing()
            record.wanted = False
            self._cancel_restart()
            self._keep()
            if not record.running:
                return
            await self._monitor.kill(record.id, record.spec.stop_signal)
        limit = record.spec.stop_timeout if timeout is None else timeout
        if not await self.wait(lambda item: not item.running, limit):
            await self._monitor.kill(record.id, "SIGKILL")
            await self.wait(lambda item: not item.running, _KILL_SECONDS)

    async def remove(self) -> None:
        """End it and take it away, volumes excepted. To be repeated if it fails; the next server does so, too."""
        async with self._step:
            self.record.wanted, self.record.state = False, "removing"
            self._keep()
            self._cancel_restart()
            self._cancel_watch()
            try:
                await self._take_apart()
            finally:
                self._tell()

    async def _launch(self) -> None:
        """To be waited for: what the runtime is about to make cannot be deleted yet."""
        record = self.record
        bundle = self._parts.bundle(record.id)
        record.pid = await self._monitor.create(record.id, bundle, self._parts.log(record.id))
        record.pid_start = start_time(record.pid)

    async def _start(self) -> None:
        record = self.record
        if record.running:
            return
        try:
            if record.state == "exited":
                await self._parts.rebuild(record)
                await to_the_end(self._launch())
            await self._monitor.start(record.id)
        except BaseException:
            record.state = "exited"
            await asyncio.shield(self._release())
            raise
        record.state, record.exit_code, record.started = "running", None, time.time()
        self._keep()
        self._watch_health()
        self._tell()

    async def _release(self) -> None:
        """Have the runtime forget its process: what it knows of one is in the way of the next."""
        try:
            await self._monitor.delete(self.record.id)
        except (SlipwayError, OSError) as error:
            log.warning("the runtime does not let the container %s go: %s", self.record.id, error)

    async def _take_apart(self) -> None:
        await self._monitor.forget(self.record.id, self._parts.bundle(self.record.id))
        await self._parts.take_apart(self.record)

    # By itself

    async def resume(self) -> None:
        """Go on after a start of the server."""
        if self.record.running:
            await self.look()
            if self.record.running:
                self._watch_health()
        else:
            await self._release()  # a server may have started it, and had no time to write that down
            self._plan_restart()

    async def look(self) -> None:
        """Notice its end, if it has ended: to be called while the server runs."""
        async with self._step:
            code = self._exit_code() if self.record.running else None
            if code is not None:
                await self._end(code)

    async def let_go(self) -> None:
        """Do no more for it; it goes on."""
        tasks = [task for task in (self._restart, self._watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _exit_code(self) -> int | None:
        """``None`` while it runs. Nobody knows what a container without a monitor ended with."""
        record = self.record
        unwatched = not self._monitor.watches(record.id, self._parts.bundle(record.id))
        code = self._monitor.exit_code(record.id)  # only now: a monitor writes it before it ends
        alive = record.pid_start != "" and start_time(record.pid) == record.pid_start
        return _UNKNOWN if code is None and unwatched and not alive else code

    async def _end(self, exit_code: int) -> None:
        record = self.record
        await self._release()
        self._cancel_watch()
        record.state, record.exit_code, record.finished, record.health = "exited", exit_code, time.time(), ""
        self._keep()
        if ran_stably(record):
            self._attempts = 0
        self._plan_restart()
        self._tell()

    def _plan_restart(self) -> None:
        delay = delay_before_restart(self.record, self.record.exit_code or 0, self._attempts)
        if delay is not None:
            self._attempts += 1
            self._restart = asyncio.create_task(self._restart_after(delay))

    async def _restart_after(self, delay: float) -> None:
        await asyncio.sleep(delay)
        async with self._step:
            try:
                await self._start()
            except (SlipwayError, OSError) as error:
                log.warning("container %s could not be restarted: %s", self.record.id, error)
            self.record.restarts += 1  # only now: the last one allowed is one, too, until it has been made
            if self.record.running:
                self._keep()
            else:
                self._plan_restart()

    def _watch_health(self) -> None:
        record, check = self.record, self.record.spec.health
        if check is None:
            return

        async def probe() -> bool:
            try:
                return await self._monitor.probe(record.id, check.test, check.timeout)
            except (SlipwayError, OSError):
                return False

        def tell(status: str) -> None:
            record.health = status
            self._tell()

        self._watch = asyncio.create_task(health.watch(check, record.started, probe, tell))

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _cancel_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _existing(self) -> Container:
        if self.record.state == "removing":
            raise NotFound(f"the container {self.record.id!r} was removed")
        return self.record

    def _keep(self) -> None:
        """A record that cannot be written, say on a full disk, is no reason to do nothing: processes and exit files
        say most of it."""
        try:
            self._parts.save(self.record)
        except OSError as error:
            log.warning("the record of the container %s could not be written: %s", self.record.id, error)

    def _tell(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
