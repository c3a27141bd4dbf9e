"""Starting, using and ending a worker, from the server's side."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import slipway
from slipway.base.cgroups import Group, GroupLimits, groups_below
from slipway.base.files import atomic_write
from slipway.base.process import BASE_ENVIRONMENT
from slipway.errors import Exhausted, Failed, Unavailable
from slipway.snapshots import Active

log = logging.getLogger(__name__)
ID_COUNT = 65536
DEFAULT_ID_BASE = 0x2000_0000
_GROUP = "slipway/builds"
_READ = 65536
_START_SECONDS = 20
Output = Callable[[str, bytes], None]


class NetworkAttacher(Protocol):
    """Gives a worker's network namespace a way out, for as long as the build runs."""

    async def attach(self, netns: Path, build_id: str) -> str:
        """Connect; returns the text of the worker's /etc/resolv.conf."""
        ...

    async def detach(self, netns: Path, build_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one build may use: CPUs, bytes of memory, processes, seconds."""

    cpus: float
    memory: int
    pids: int
    seconds: int

    def to_json(self) -> dict[str, float]:
        return {"cpus": self.cpus, "memory": self.memory, "pids": self.pids, "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class RunStep:
    """One process: over ``lowers`` (top first) with the writable ``active`` snapshot."""

    lowers: Sequence[Path]
    active: Active
    argv: Sequence[str]
    env: Sequence[tuple[str, str]]
    cwd: str
    uid: int
    gid: int
    groups: Sequence[int]
    network: bool


class IdRanges:
    """Subordinate id ranges, one for each worker that runs at the same time."""

    def __init__(self, base: int | None = None) -> None:
        self._base = base if base is not None else _configured_base()
        self._taken: set[int] = set()

    def take(self) -> int:
        slot = next(number for number in range(len(self._taken) + 1) if number not in self._taken)
        self._taken.add(slot)
        return self._base + slot * ID_COUNT

    def give_back(self, start: int) -> None:
        self._taken.discard((start - self._base) // ID_COUNT)


def _configured_base() -> int:
    """The range of the user ``slipway`` in /etc/subuid, if the host's administrator set one aside."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/etc/subuid").read_text().splitlines():
            name, start, count = line.split(":")
            if name == "slipway" and int(count) >= ID_COUNT:
                return int(start)
    return DEFAULT_ID_BASE


class Sandbox:
    """One worker. Made by ``Sandboxes.start``; ``close`` ends it and everything in it."""

    def __init__(
        self, build_id: str, directory: Path, limits: Limits, network: NetworkAttacher | None
    ) -> None:
        self._build_id = build_id
        self._directory = directory
        self._limits = limits
        self._network = network
        self._group = Group(f"{_GROUP}/{build_id}")
        self._results: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._attach = asyncio.Lock()
        self._attached = False
        self._next = 0
        self._netns = -1

    async def start(self, uid_base: int) -> None:
        self._prepare_files()
        limits = GroupLimits(self._limits.cpus, self._limits.memory, self._limits.pids)
        await asyncio.to_thread(self._group.create, limits)
        for file in self._group.missing:
            log.warning("build %s: the limit %s cannot be set on this host", self._build_id, file)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        source = str(Path(slipway.__file__).resolve().parents[1])
        options = {
            "socket": theirs.fileno(),
            "uid_base": uid_base,
            "uid_count": ID_COUNT,
            "cgroups": self._group.entries,
            "stage": str(self._directory / "stage"),
            "stubs": str(self._directory / "stubs"),
        }
        program = (
            f"import sys; sys.path.insert(0, {source!r}); "
            "from slipway.build.worker.main import main; main(sys.argv[1])"
        )
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", program, json.dumps(options),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env=dict(BASE_ENVIRONMENT), pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        await self._first_message()
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._message)

    def _prepare_files(self) -> None:
        """Mount points for roots that have none, and the resolver's files until a network is attached."""
        stubs = self._directory / "stubs"
        for name in ("proc", "sys", "dev", "etc"):
            (stubs / name).mkdir(parents=True, exist_ok=True)
        for name in ("resolv.conf", "hosts"):
            (stubs / "etc" / name).touch()
        (self._directory / "stage").mkdir(exist_ok=True)
        atomic_write(self._directory / "resolv.conf", "", durable=False)
        atomic_write(self._directory / "hosts", "127.0.0.1 localhost\n::1 localhost\n", durable=False)

    async def _first_message(self) -> None:
        """Wait until the worker is ready; it sends its network namespace along."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._socket.fileno(), readable.set)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await readable.wait()
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ, 1)
        except (TimeoutError, OSError):
            data, descriptors = b"", []
        finally:
            loop.remove_reader(self._socket.fileno())
        if not data or not descriptors:
            await self._not_started()
        self._netns = descriptors[0]

    async def _not_started(self) -> None:
        assert self._process.stderr is not None
        self._process.kill()
        text = (await self._process.stderr.read()).decode(errors="replace").strip().rpartition("\n")[2]
        raise Unavailable(
            f"the build worker did not start: {text or 'no message'}",
            hint="`slipway doctor` says whether this host has user namespaces and overlay",
        )

    def _message(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        message = json.loads(data)
        future = self._results.get(message.get("done", message.get("failed", -1)))
        if future is not None and not future.done():
            future.set_result(message)

    def _lost(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        for future in self._results.values():
            if not future.done():
                future.set_exception(Failed("the build worker ended unexpectedly", hint="try again"))

    async def run(self, step: RunStep, output: Output) -> int:
        """Run one process to its end; its exit code, or 128 and the signal that ended it.

        Raises ``Exhausted`` when it was killed for its memory and ``Failed`` when it could not be set up.
        """
        if step.network:
            await self._connect()
        self._next += 1
        number = self._next
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._results[number] = future
        kills = self._group.oom_kills()
        try:
            async with asyncio.TaskGroup() as group:
                ends = []
                for stream in ("stdout", "stderr"):
                    read, write = os.pipe()
                    ends.append(write)
                    group.create_task(_pump(read, stream, output))
                self._send(number, step, ends)
                message = await future
        except* (Failed, OSError) as errors:
            raise errors.exceptions[0] from None
        finally:
            del self._results[number]
        if "failed" in message:
            raise Failed(f"the step could not be set up: {message['error']}")
        status = int(message["status"])
        if status == -signal.SIGKILL and self._group.oom_kills() > kills:
            limit = self._limits.memory >> 20
            raise Exhausted(
                f"the step was killed: it needed more than {limit} MiB of memory", hint="raise build.memory"
            )
        return 128 - status if status < 0 else status

    def _send(self, number: int, step: RunStep, ends: list[int]) -> None:
        request = {
            "id": number,
            "lowers": [str(path) for path in step.lowers],
            "active": str(step.active.upper.parent),
            "argv": list(step.argv),
            "env": [list(pair) for pair in step.env],
            "cwd": step.cwd,
            "uid": step.uid,
            "gid": step.gid,
            "groups": list(step.groups),
            "resolv.conf": str(self._directory / "resolv.conf"),
            "hosts": str(self._directory / "hosts"),
        }
        data = json.dumps({"run": request}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", ends))]
        try:
            self._socket.sendmsg([data], rights)
        finally:
            for fd in ends:
                os.close(fd)

    async def _connect(self) -> None:
        async with self._attach:
            if not self._attached and self._network is not None:
                text = await self._network.attach(self._netns_path, self._build_id)
                # In place: the file may be mounted in a step already.
                (self._directory / "resolv.conf").write_text(text)
                self._attached = True

    @property
    def _netns_path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self._netns}")

    async def close(self) -> None:
        """Kill the worker, wait until nothing of it is left. Idempotent."""
        loop = asyncio.get_running_loop()
        if self._attached and self._network is not None:
            await self._network.detach(self._netns_path, self._build_id)
            self._attached = False
        if hasattr(self, "_process"):
            loop.remove_reader(self._socket.fileno())
            self._socket.close()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()
            del self._process
        if self._netns >= 0:
            os.close(self._netns)
            self._netns = -1
        await asyncio.to_thread(self._group.destroy)


async def _pump(fd: int, stream: str, output: Output) -> None:
    """Pass on what is written to a pipe until its writers are gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    try:
        while data := await reader.read(_READ):
            output(stream, data)
    finally:
        transport.close()


class Sandboxes:
    """Starts workers; owns the id ranges and the directory their files are in."""

    def __init__(self, directory: Path, network: NetworkAttacher | None) -> None:
        self._directory = directory
        self._network = network
        self._ranges = IdRanges()

    def recover(self) -> None:
        """Remove the groups of workers that a killed server left; their processes ended with it."""
        for name in groups_below(_GROUP):
            Group(name).destroy()

    @contextlib.asynccontextmanager
    async def start(self, build_id: str, limits: Limits) -> AsyncIterator[Sandbox]:
        """A running sandbox for the length of the block."""
        base = self._ranges.take()
        directory = self._directory / build_id
        directory.mkdir(parents=True, exist_ok=True)
        sandbox = Sandbox(build_id, directory, limits, self._network)
        try:
            await sandbox.start(base)
            yield sandbox
        finally:
            await sandbox.close()
            self._ranges.give_back(base)
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
