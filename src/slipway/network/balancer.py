"""HAProxy: started once, outlives the server, changed without losing a connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from slipway.base.files import atomic_write
from slipway.base.process import BASE_ENVIRONMENT, run
from slipway.errors import Conflict, Failed, Unavailable
from slipway.network import haproxy, holders, processes
from slipway.network.changes import State, diff, idle, needs_reload
from slipway.network.haproxy import Processes, ServerStats
from slipway.network.routes import Files, Route, check, identity, render, render_map

_UNKNOWN = "There is no such service here. `slipway app ls` lists where apps answer.\n"
_NOBODY = (
    "HTTP/1.0 503 Service Unavailable\r\nCache-Control: no-cache\r\nConnection: close\r\n"
    "Content-Type: text/plain\r\n\r\nNo instance of this service is ready. `slipway app show` says why.\n"
)
_SECONDS = 10.0
_POLL = 0.03
_DYING_SECONDS = 2.0
_TRIES = 5


class Balancer:
    """One HAProxy with its routes. ``apply`` is the only way they change; calls are put in order.

    A life: ``apply`` as often as wanted; for an instance that should end: ``apply`` without it, ``drain``, end it,
    ``forget``. ``stop`` at the very end; a server that goes away just lets HAProxy run, and the next one's ``apply``
    finds it, whatever it does by then.
    """

    def __init__(self, runtime: Path, listen: str) -> None:
        self._files = Files(runtime / "balancer")
        self._listen = listen
        self._lock = asyncio.Lock()
        self._routes: tuple[Route, ...] = ()

    async def apply(self, routes: Sequence[Route]) -> None:
        """Make HAProxy serve exactly ``routes``. Idempotent.

        It is compared with what runs. Instances and host names come and go over the runtime API; only a new service or
        a change of a TCP address makes HAProxy read its configuration anew, which hands the listening sockets over.
        Removed instances finish what they have (see ``drain``). Raises ``Conflict`` when an address is taken; what ran
        before goes on then.
        """
        check(routes, self._listen)
        async with self._lock:
            if not self.running():
                await self._start(routes)
            else:
                await self._converge(routes)
            self._routes = tuple(routes)

    async def ensure_running(self) -> None:
        """Start HAProxy with the routes applied last, if it does not run."""
        if not self.running():
            await self.apply(self._routes)

    def running(self) -> bool:
        return self.pid() is not None

    def pid(self) -> int | None:
        """The master's pid, if it is alive and ours."""
        try:
            pid = int(self._files.pid.read_text().split()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return None
        return pid if processes.is_ours(pid, "haproxy", str(self._files.config)) else None

    async def drain(self, server_id: str, timeout: float) -> bool:
        """Wait until an instance that is in no route any more has no request left; whether that was in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while await self._is_busy(server_id):
                    await asyncio.sleep(_POLL)
                return True
        return False

    async def _is_busy(self, server_id: str) -> bool:
        try:
            replaced = (await haproxy.processes(self._files)).replaced
            return await haproxy.is_busy(self._files, server_id, replaced)
        except OSError:
            # Between two workers: nothing is known, unless there is no HAProxy at all.
            return self.running()

    async def forget(self, server_id: str) -> None:
        """Remove a drained instance from every backend. Idempotent; what is in use goes with a later ``apply``."""
        async with self._lock:
            with contextlib.suppress(OSError):
                state = await haproxy.observe(self._files)
                for key in [key for key in state.servers if key[1] == server_id]:
                    await self._remove(*key)

    async def stats(self) -> list[ServerStats]:
        """Every server in numbers; nothing while HAProxy does not run."""
        try:
            return await haproxy.server_stats(self._files)
        except OSError:
            return []

    async def stop(self) -> None:
        """End HAProxy, connections included, and remove its files. Idempotent."""
        async with self._lock:
            master = self.pid()
            await processes.end("haproxy", str(self._files.config), _SECONDS, [master] if master else [])
            await asyncio.to_thread(shutil.rmtree, self._files.directory, True)

    # Starting

    async def _start(self, routes: Sequence[Route]) -> None:
        # Workers whose master was killed go by themselves, but not at once.
        await processes.end("haproxy", str(self._files.config), _SECONDS)
        await self._check_addresses(routes)
        self._write(routes)
        await self._check_configuration()
        log = os.open(self._files.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        files = self._files
        argv = [
            "haproxy",
            "-W",
            "-D",
            "-S",
            f"{files.master},mode,600",
            "-p",
            str(files.pid),
            "-f",
            str(files.config),
        ]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(BASE_ENVIRONMENT),
                start_new_session=True,
            )  # fmt: skip
            status = await process.wait()
        finally:
            os.close(log)
        if status or not await self._answers(Processes()):
            tail = files.log.read_text(errors="replace")[-1000:].strip()
            raise Failed(f"haproxy does not start: {tail or f'status {status}'}")

    async def _check_addresses(self, routes: Sequence[Route]) -> None:
        """HAProxy would share an address with another HAProxy in silence, and tell of others too late to a reload."""
        for listen in (self._listen, *(route.tcp_listen for route in routes if route.tcp_listen)):
            found = await self._others_at(listen)
            if found is None:
                continue
            who = ", ".join(str(holder) for holder in found)
            raise Conflict(
                f"the address {listen} for apps is in use" + (f" by {who}" if who else ""),
                hint="stop what listens there, or set apps.listen (for a port of a service: its `ports`) to another",
                address=listen,
            )

    async def _others_at(self, listen: str) -> list[holders.Holder] | None:
        """Who else listens there; ``None`` if it is free or ours.

        A process being killed has no name any more while its sockets are still open: what nobody holds is looked at
        again for a while.
        """
        end = time.monotonic() + _DYING_SECONDS
        while not holders.is_free(listen):
            found = await asyncio.to_thread(holders.holders, listen)
            config = str(self._files.config)
            if any(processes.is_ours(holder.pid, "haproxy", config) for holder in found):
                return None
            if any(holder.name != "haproxy" for holder in found) or time.monotonic() > end:
                return found
            await asyncio.sleep(_POLL)
        return None

    def _write(self, routes: Sequence[Route]) -> None:
        self._files.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_write(self._files.unknown, _UNKNOWN, durable=False)
        atomic_write(self._files.nobody, _NOBODY, durable=False)
        atomic_write(self._files.hosts, render_map(routes), durable=False)
        atomic_write(self._files.config, render(routes, self._listen, self._files), durable=False)

    async def _check_configuration(self) -> None:
        done = await run(["haproxy", "-c", "-q", "-f", self._files.config], check=False)
        if done.returncode:
            raise Failed(f"haproxy refuses its configuration: {done.stderr.decode(errors='replace').strip()}")

    async def _answers(self, before: Processes) -> bool:
        """Wait for a worker after that of ``before``; whether it came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while True:
                    with contextlib.suppress(OSError, TimeoutError):
                        found = await haproxy.processes(self._files)
                        if found.failed > before.failed:
                            return False
                        if found.worker not in (0, before.worker) and await haproxy.say(
                            self._files.admin, "show info"
                        ):
                            return True
                    await asyncio.sleep(_POLL)
        return False

    # Changing

    async def _converge(self, routes: Sequence[Route]) -> None:
        state = await self._observe()
        if state is None or needs_reload(state, routes, identity(self._listen, self._files)):
            await self._reload(routes)
            return
        self._write(routes)
        for command in diff(state, routes, self._files.hosts):
            await haproxy.change(self._files.admin, command)
        for key in idle(state, routes):
            await self._remove(*key)

    async def _observe(self) -> State | None:
        with contextlib.suppress(OSError, TimeoutError):
            return await haproxy.observe(self._files)
        return None

    async def _reload(self, routes: Sequence[Route]) -> None:
        """A worker with the new configuration takes the listening sockets over; the old one finishes its requests."""
        await self._check_addresses(routes)
        before = [(path, path.read_bytes()) for path in (self._files.config, self._files.hosts)]
        try:
            self._write(routes)
            await self._check_configuration()
            await self._replace_worker()
        except BaseException:
            # The file is what HAProxy does: the next reload must not stumble over this attempt.
            for path, content in before:
                atomic_write(path, content, durable=False)
            raise

    async def _replace_worker(self) -> None:
        pid = self.pid()
        if pid is None:
            raise Unavailable(
                "haproxy ended while its routes were changed", hint="the next change starts it again"
            )
        before = await haproxy.processes(self._files)
        os.kill(pid, signal.SIGUSR2)
        if not await self._answers(before):
            raise Failed("haproxy does not take its new configuration", hint="it goes on with the one before")

    async def _remove(self, backend: str, server: str) -> None:
        """Best effort: HAProxy keeps a server that has connections, idle ones too."""
        for _ in range(_TRIES):
            await haproxy.say(self._files.admin, f"set server {backend}/{server} state maint")
            answer = await haproxy.say(self._files.admin, f"del server {backend}/{server}")
            if "still has" not in answer:
                return
            await asyncio.sleep(_POLL)
