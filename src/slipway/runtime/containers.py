"""The life of containers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from slipway.base.files import atomic_write, read_json, write_json
from slipway.base.ids import new_id
from slipway.base.process import Completed, run
from slipway.errors import Conflict, NotFound, SlipwayError, Unavailable
from slipway.oci import Digest
from slipway.runtime import health
from slipway.runtime.bundle import configuration
from slipway.runtime.commands import ContainerCommand
from slipway.runtime.conmon import Monitor
from slipway.runtime.logs import LogLine, read_log
from slipway.runtime.ports import ContainerNetworks
from slipway.runtime.record import Container
from slipway.runtime.restart import delay_before_restart, ran_stably
from slipway.runtime.spec import ContainerSpec, Mount
from slipway.snapshots import SnapshotStore
from slipway.snapshots.accounts import resolve_user

log = logging.getLogger(__name__)
_POLL = 0.05
_STUBS = {"etc/hosts": b"", "etc/hostname": b"", "etc/resolv.conf": b""}
Listener = Callable[[Container], None]


class Containers:
    """All containers of this server. ``run_forever`` must run while the server does: it notices ends."""

    def __init__(
        self, data: Path, runtime_directory: Path, snapshots: SnapshotStore, networks: ContainerNetworks, runtime: str,
        resolver: Callable[[], str],
    ) -> None:  # fmt: skip
        self._data = data / "containers"
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._snapshots = snapshots
        self._networks = networks
        self._monitor = Monitor(runtime, runtime_directory)
        self._resolver = resolver
        self._all: dict[str, Container] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._attempts: dict[str, int] = defaultdict(int)
        self._listeners: list[Listener] = []
        self._changed = asyncio.Condition()

    # Questions

    def get(self, container: str) -> Container:
        """Raises ``NotFound``."""
        try:
            return self._all[container]
        except KeyError as error:
            raise NotFound(f"there is no container {container!r}") from error

    def list(self, labels: Mapping[str, str] | None = None) -> list[Container]:
        """Those that have all ``labels``, oldest first."""
        wanted = (labels or {}).items()
        found = [item for item in self._all.values() if wanted <= item.spec.labels.items()]
        return sorted(found, key=lambda item: item.created)

    def listen(self, listener: Listener) -> None:
        """``listener`` is called after every change of a container."""
        self._listeners.append(listener)

    async def wait(self, container: str, done: Callable[[Container], bool], timeout: float) -> bool:
        """Wait until ``done`` holds for the container; whether it did in time. Raises ``NotFound`` once removed."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                while not done(self.get(container)):
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def logs(
        self, container: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[LogLine]:
        record = self.get(container)
        return read_log(
            self._directory(container) / "log",
            follow=lambda: follow and record.running and container in self._all,
            tail=tail,
        )

    def command(
        self, container: str, argv: Sequence[str], terminal: bool
    ) -> AbstractAsyncContextManager[ContainerCommand]:
        """A command inside, with its input and output as they come. Raises ``Conflict`` where nothing runs."""
        if not self.get(container).running:
            raise Conflict(f"the container {container} is not running")
        return self._monitor.command(container, argv, terminal)

    async def execute(self, container: str, argv: Sequence[str], timeout: float | None = None) -> Completed:
        """Run a command inside a running container."""
        if not self.get(container).running:
            raise Conflict(f"the container {container} is not running")
        return await self._monitor.execute(container, argv, timeout)

    # Life

    async def create(self, spec: ContainerSpec) -> Container:
        """Everything but starting: root, networks, files, the paused process. Leaves nothing behind on failure."""
        container = Container(new_id(12), spec, created=time.time())
        directory = self._directory(container.id)
        directory.mkdir(mode=0o700)
        self._save(container)
        try:
            await self._prepare(container)
            await self._launch(container)
        except BaseException:
            await asyncio.shield(self._destroy(container))
            raise
        container.state = "created"
        self._save(container)
        self._all[container.id] = container
        return container

    async def _prepare(self, container: Container) -> None:
        spec = container.spec
        chain = Digest.parse(spec.chain) if spec.chain else None
        rootfs = self._rootfs(container.id)
        await asyncio.to_thread(self._snapshots.mount, container.id, chain, rootfs, _STUBS)
        netns = await self._networks.create_netns(container.id)
        for request in spec.networks:
            found = await self._networks.attach(netns, request.network, container.id, request.aliases)
            container.addresses[found.network] = found.address
            container.dns = container.dns or found.dns
        files = await asyncio.to_thread(self._write_files, container)
        with await asyncio.to_thread(self._snapshots.view, chain) as view:
            account = resolve_user(spec.user, view)
            for mount in spec.mounts:
                if mount.kind == "volume":
                    await self._fill_volume(mount, rootfs, view.resolve(mount.target.strip("/")))
        bundle = self._directory(container.id) / "bundle"
        bundle.mkdir()
        write_json(
            bundle / "config.json",
            configuration(spec, account, rootfs, netns, container.id, files),
            durable=False,
        )

    async def _fill_volume(self, mount: Mount, rootfs: Path, inside: str | None) -> None:
        """An empty volume begins with what the image has at its place, owner and mode included."""
        volume = Path(mount.source)
        volume.mkdir(parents=True, exist_ok=True)
        source = rootfs / inside if inside else None
        if source is None or not source.is_dir() or any(volume.iterdir()):
            return
        await run(["cp", "-a", "--", f"{source}/.", str(volume)])

    def _write_files(self, container: Container) -> dict[str, Path]:
        spec, directory = container.spec, self._directory(container.id)
        name = spec.hostname or container.id[:12]
        hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        hosts += [f"{address} {name}" for address in container.addresses.values()]
        hosts += [f"{address} {host}" for host, address in spec.extra_hosts]
        resolver = f"nameserver {container.dns}\noptions ndots:0\n" if container.dns else self._resolver()
        texts = {"hosts": "\n".join(hosts) + "\n", "hostname": f"{name}\n", "resolv.conf": resolver}
        for file, text in texts.items():
            atomic_write(directory / file, text, durable=False)
        return {f"/etc/{file}": directory / file for file in texts}

    async def _launch(self, container: Container) -> None:
        directory = self._directory(container.id)
        (self._monitor.exits / container.id).unlink(missing_ok=True)
        container.pid = await self._monitor.create(container.id, directory / "bundle", directory / "log")
        container.pid_start = _start_time(container.pid)

    async def start(self, container: str) -> None:
        """Idempotent: a running container stays as it is."""
        async with self._locks[container]:
            record = self.get(container)
            record.wanted = True
            await self._start(record)

    async def _start(self, record: Container) -> None:
        if record.state == "running":
            return
        if record.state == "exited":
            await self._launch(record)
        await self._monitor.start(record.id)
        record.state, record.exit_code, record.started = "running", None, time.time()
        self._save(record)
        self._watch_health(record)
        await self._tell(record)

    async def stop(self, container: str, timeout: float | None = None) -> None:
        """The stop signal, then after ``timeout`` seconds SIGKILL. Idempotent; no restart follows."""
        async with self._locks[container]:
            record = self.get(container)
            record.wanted = False
            self._save(record)
            if not record.running:
                return
            await self._monitor.kill(container, record.spec.stop_signal)
        limit = record.spec.stop_timeout if timeout is None else timeout
        if not await self.wait(container, lambda item: not item.running, limit):
            await self._monitor.kill(container, "SIGKILL")
            await self.wait(container, lambda item: not item.running, 10)

    async def remove(self, container: str) -> None:
        """End and remove it with everything it wrote outside volumes. Idempotent."""
        record = self._all.get(container)
        if record is None:
            return
        async with self._locks[container]:
            record.wanted = False
            del self._all[container]
            await self._destroy(record)
        self._locks.pop(container, None)
        self._attempts.pop(container, None)
        await self._tell(record)

    async def _destroy(self, record: Container) -> None:
        """Take apart whatever exists of a container, in reverse order."""
        task = self._tasks.pop(record.id, None)
        if task is not None:
            task.cancel()
        await self._monitor.delete(record.id)
        await self._until_conmon_ends(record.id)
        path = self._netns_path(record.id)
        for request in record.spec.networks:
            await self._networks.detach(path, request.network, record.id)
        await self._networks.delete_netns(record.id)
        await asyncio.to_thread(self._snapshots.unmount, record.id, self._rootfs(record.id))
        (self._monitor.exits / record.id).unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, self._directory(record.id), True)

    async def _until_conmon_ends(self, container: str) -> None:
        """conmon writes the exit file after the container ended: it must not come back once it was removed."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self._directory(container) / "bundle" / "conmon.pid").read_text())
            for _ in range(100):
                if b"conmon" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return
                await asyncio.sleep(0.02)

    def _netns_path(self, container: str) -> Path:
        config = self._directory(container) / "bundle" / "config.json"
        with contextlib.suppress(FileNotFoundError):
            for space in read_json(config)["linux"]["namespaces"]:
                if space["type"] == "network":
                    return Path(space["path"])
        return Path("/nonexistent")

    # What happens by itself

    async def run_forever(self) -> None:
        """Notice containers that end, record it, restart those that should be."""
        while True:
            for name in os.listdir(self._monitor.exits):
                record = self._all.get(name)
                if record is not None and record.running:
                    await self._ended(record)
            await asyncio.sleep(_POLL)

    async def _ended(self, record: Container) -> None:
        try:
            text = (self._monitor.exits / record.id).read_text().strip()
        except FileNotFoundError:
            return
        async with self._locks[record.id]:
            if not record.running:
                return
            await self._record_end(record, int(text or 255))
        await self._tell(record)
        if ran_stably(record):
            self._attempts.pop(record.id, None)
        self._plan_restart(record)

    async def _record_end(self, record: Container, exit_code: int) -> None:
        health_task = self._tasks.pop(record.id, None)
        if health_task is not None:
            health_task.cancel()
        record.state, record.exit_code, record.finished, record.health = "exited", exit_code, time.time(), ""
        await self._monitor.delete(record.id)
        self._save(record)

    def _plan_restart(self, record: Container) -> None:
        delay = delay_before_restart(record, record.exit_code or 0, self._attempts[record.id])
        if delay is not None:
            self._attempts[record.id] += 1
            self._tasks[record.id] = asyncio.create_task(self._restart_later(record, delay))

    async def _restart_later(self, record: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        async with self._locks[record.id]:
            if not record.wanted or record.running or record.id not in self._all:
                return
            self._tasks.pop(record.id, None)
            record.restarts += 1
            try:
                await self._start(record)
            except SlipwayError as error:
                log.warning("container %s could not be restarted: %s", record.id, error)
                await self._monitor.delete(record.id)  # it may have been made, and not started
                self._plan_restart(record)

    def _watch_health(self, record: Container) -> None:
        check = record.spec.health
        if check is None:
            return

        async def probe() -> bool:
            try:
                return (await self._monitor.execute(record.id, check.test, check.timeout)).returncode == 0
            except Unavailable:
                return False

        def tell(status: str) -> None:
            record.health = status
            self._tasks[f"tell {record.id}"] = asyncio.create_task(self._tell(record))

        watching = health.watch(check, record.started, probe, tell)
        self._tasks[record.id] = asyncio.create_task(watching)

    async def _tell(self, record: Container) -> None:
        async with self._changed:
            self._changed.notify_all()
        for listener in self._listeners:
            listener(record)

    async def recover(self) -> None:
        """Find everything again after a start of the server. Half-made containers are removed."""
        for directory in sorted(self._data.iterdir()):
            try:
                record = Container.from_json(read_json(directory / "container.json"))
            except (OSError, ValueError, TypeError, KeyError):
                await asyncio.to_thread(shutil.rmtree, directory, True)
                continue
            if record.state in ("creating", "created"):
                await self._destroy(record)
                continue
            self._all[record.id] = record
            if record.running and _start_time(record.pid) == record.pid_start:
                self._watch_health(record)
            elif record.running:
                exits = self._monitor.exits / record.id
                await self._record_end(record, int(exits.read_text() or 255) if exits.exists() else 255)
            if not record.running:
                self._plan_restart(record)
        for container in self._snapshots.container_ids():
            if container not in self._all:
                await asyncio.to_thread(self._snapshots.unmount, container, self._rootfs(container))
        await self._networks.recover(list(self._all))

    async def close(self) -> None:
        """Stop watching; containers go on."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _directory(self, container: str) -> Path:
        return self._data / container

    def _rootfs(self, container: str) -> Path:
        return self._directory(container) / "rootfs"

    def _save(self, container: Container) -> None:
        write_json(
            self._directory(container.id) / "container.json", container.to_json(), 0o600, durable=False
        )


def _start_time(pid: int) -> str:
    """What tells this process from a later one with the same pid; empty when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
