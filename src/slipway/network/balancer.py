"""HAProxy: started once, outlives the server, changed without losing a connection."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from slipway.base.files import atomic_write
from slipway.base.process import BASE_ENVIRONMENT, run
from slipway.errors import Conflict, Failed, Unavailable
from slipway.network.routes import Files, Route, Server, render, render_map, server_line, shape

_UNKNOWN = "There is no such service here. `slipway app ls` lists where apps answer.\n"
_NOBODY = (
    "HTTP/1.0 503 Service Unavailable\r\nCache-Control: no-cache\r\nConnection: close\r\n"
    "Content-Type: text/plain\r\n\r\nNo instance of this service is ready. `slipway app show` says why.\n"
)
_START_SECONDS = 10.0
_POLL = 0.05


class Balancer:
    """One HAProxy with its routes. ``apply`` is the only way they change; calls are put in order."""

    def __init__(self, runtime: Path, listen: str) -> None:
        self._files = Files(runtime / "balancer")
        self._listen = listen
        self._lock = asyncio.Lock()
        self._routes: tuple[Route, ...] = ()
        self._applied = False

    async def apply(self, routes: Sequence[Route]) -> None:
        """Make HAProxy serve exactly ``routes``. Idempotent.

        Instances come and go over the runtime API; only a new or removed service makes HAProxy read its configuration
        anew, which hands the listening sockets over. Removed instances finish what they have (see ``drain``).
        Raises ``Conflict`` when the address is taken.
        """
        async with self._lock:
            wanted = tuple(routes)
            same_shape = self._applied and shape(wanted) == shape(self._routes)
            self._write(wanted)
            if not self.running():
                await self._start()
            elif same_shape:
                await self._change(wanted)
            else:
                await self._reload()
            self._routes, self._applied = wanted, True

    def _write(self, routes: Sequence[Route]) -> None:
        self._files.directory.mkdir(parents=True, exist_ok=True)
        atomic_write(self._files.unknown, _UNKNOWN, durable=False)
        atomic_write(self._files.nobody, _NOBODY, durable=False)
        atomic_write(self._files.hosts, render_map(routes), durable=False)
        atomic_write(self._files.config, render(routes, self._listen, self._files), durable=False)

    def running(self) -> bool:
        pid = self.pid()
        return pid is not None

    def pid(self) -> int | None:
        """The master's pid, if it is alive and really HAProxy."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._files.pid.read_text().split()[0])
            if b"haproxy" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    async def _start(self) -> None:
        self._check_port()
        files = self._files
        done = await run(["haproxy", "-c", "-f", files.config], check=False)
        if done.returncode:
            raise Failed(f"haproxy refuses its configuration: {done.stderr.decode(errors='replace').strip()}")
        log = os.open(
            files.directory / "haproxy.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            process = await asyncio.create_subprocess_exec(
                "haproxy", "-W", "-D", "-S", f"{files.master},mode,600", "-p", str(files.pid), "-f", str(files.config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(BASE_ENVIRONMENT),
                start_new_session=True,
            )  # fmt: skip
            await process.wait()
        except FileNotFoundError as error:
            raise Unavailable("haproxy is not installed", hint="apt-get install haproxy") from error
        finally:
            os.close(log)
        await self._until_answers()

    def _check_port(self) -> None:
        host, _, port = self._listen.rpartition(":")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except OSError as error:
                raise Conflict(
                    f"the address {self._listen} for apps is in use",
                    hint="stop what listens there (`ss -ltnp`), or set apps.listen to another address",
                ) from error

    async def _until_answers(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                while True:
                    with contextlib.suppress(OSError):
                        if await self._say("show info"):
                            return
                    await asyncio.sleep(_POLL)
        tail = (self._files.directory / "haproxy.log").read_text(errors="replace")[-1000:]
        raise Failed(f"haproxy does not answer: {tail.strip()}")

    async def _reload(self) -> None:
        """Ask the master to start a worker with the new configuration; the old one finishes its connections."""
        done = await run(["haproxy", "-c", "-f", self._files.config], check=False)
        if done.returncode:
            raise Failed(f"haproxy refuses its configuration: {done.stderr.decode(errors='replace').strip()}")
        before = await self._worker()
        pid = self.pid()
        if pid is None:
            await self._start()
            return
        os.kill(pid, signal.SIGUSR2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                while await self._worker() in (before, ""):
                    await asyncio.sleep(_POLL)

    async def _worker(self) -> str:
        """The pid of the worker that answers now."""
        with contextlib.suppress(OSError):
            for line in (await self._say("show info")).splitlines():
                if line.startswith("Pid:"):
                    return line.split()[1]
        return ""

    async def _change(self, wanted: Sequence[Route]) -> None:
        before = {(route.backend, server.id): server for route in self._routes for server in route.servers}
        after = {(route.backend, server.id): server for route in wanted for server in route.servers}
        tcp = {route.backend for route in wanted if route.tcp_listen}
        for (backend, _), server in after.items():
            if before.get((backend, server.id)) != server:
                for name in (backend, f"tcp_{backend}") if backend in tcp else (backend,):
                    await self._add(name, server)
        for backend, identity in before:
            if (backend, identity) not in after:
                for name in (backend, f"tcp_{backend}") if backend in tcp else (backend,):
                    await self._say(f"set server {name}/{identity} state drain")

    async def _add(self, backend: str, server: Server) -> None:
        answer = await self._say(f"add {server_line(server).replace('server ', f'server {backend}/', 1)}")
        if "already exists" in answer or "already a server" in answer:
            await self._say(f"set server {backend}/{server.id} addr {server.address} port {server.port}")
            await self._say(f"set server {backend}/{server.id} state ready")
        elif "registered" not in answer:
            raise Failed(f"haproxy would not take {server.id}: {answer.strip()}")
        await self._say(f"enable server {backend}/{server.id}")

    async def drain(self, server_id: str, timeout: float) -> bool:
        """Wait until an instance that is in no route any more has no request left; whether that was in time."""
        try:
            async with asyncio.timeout(timeout):
                while await self._busy(server_id):
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return False
        return True

    async def _busy(self, server_id: str) -> bool:
        rows = csv.DictReader(io.StringIO((await self._say("show stat -1 4 -1")).lstrip("# ")))
        return any(
            row["svname"] == server_id and int(row["scur"] or 0) + int(row["qcur"] or 0) for row in rows
        )

    async def forget(self, server_id: str) -> None:
        """Remove a drained instance from every backend. Idempotent."""
        with contextlib.suppress(OSError):
            rows = csv.DictReader(io.StringIO((await self._say("show stat -1 4 -1")).lstrip("# ")))
            for row in [row for row in rows if row["svname"] == server_id]:
                await self._say(f"set server {row['pxname']}/{server_id} state maint")
                await self._say(f"del server {row['pxname']}/{server_id}")

    async def stop(self) -> None:
        """End HAProxy and remove its files."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                if self.pid() is None or _is_zombie(pid):
                    break
                await asyncio.sleep(_POLL)
        for path in (self._files.admin, self._files.master, self._files.pid):
            path.unlink(missing_ok=True)
        self._applied = False

    async def _say(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._files.admin))
        try:
            writer.write(command.encode() + b"\n")
            await writer.drain()
            return (await reader.read()).decode(errors="replace")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
