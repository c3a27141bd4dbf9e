"""All containers of this server."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from slipway.base.ids import new_id
from slipway.errors import Conflict, NotFound, SlipwayError
from slipway.runtime.commands import ContainerCommand
from slipway.runtime.conmon import Monitor
from slipway.runtime.life import Life
from slipway.runtime.logs import LogLine, read_log
from slipway.runtime.parts import Parts
from slipway.runtime.ports import ContainerNetworks
from slipway.runtime.record import Container
from slipway.runtime.restart import goes_on
from slipway.runtime.spec import ContainerSpec
from slipway.snapshots import SnapshotStore

log = logging.getLogger(__name__)
_POLL = 0.05
_ROUND = 20  # in one of so many polls, those too of which no monitor says that they ended


class Containers:
    """Finds them by id. ``recover`` comes first; ``run_forever`` must run while the server does: it notices ends."""

    def __init__(
        self, data: Path, runtime_directory: Path, snapshots: SnapshotStore, networks: ContainerNetworks, runtime: str,
        resolver: Callable[[], str],
    ) -> None:  # fmt: skip
        self._parts = Parts(data / "containers", snapshots, networks, resolver)
        self._monitor = Monitor(runtime, runtime_directory)
        self._lives: dict[str, Life] = {}

    # Questions

    def get(self, container: str) -> Container:
        """Raises ``NotFound``."""
        return self._life(container).record

    def list(self, labels: Mapping[str, str] | None = None) -> list[Container]:
        """Those that have all ``labels``, oldest first."""
        wanted = (labels or {}).items()
        found = [life.record for life in self._lives.values() if wanted <= life.record.spec.labels.items()]
        return sorted(found, key=lambda item: item.created)

    async def wait(self, container: str, done: Callable[[Container], bool], timeout: float) -> bool:
        """Wait until ``done`` holds for the container; whether it did in time. Raises ``NotFound`` once removed."""
        return await self._life(container).wait(done, timeout)

    def logs(
        self, container: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncIterator[LogLine]:
        """``follow``: until it ends, and no restart brings it back."""
        record = self.get(container)
        return read_log(self._parts.log(container), follow=lambda: follow and goes_on(record), tail=tail)

    def command(
        self, container: str, argv: Sequence[str], terminal: bool
    ) -> AbstractAsyncContextManager[ContainerCommand]:
        """A command inside, with its input and output as they come. Raises ``Conflict`` where nothing runs."""
        if not self.get(container).running:
            raise Conflict(f"the container {container} is not running")
        return self._monitor.command(container, argv, terminal)

    def _life(self, container: str) -> Life:
        try:
            return self._lives[container]
        except KeyError as error:
            raise NotFound(f"there is no container {container!r}") from error

    # Life

    async def create(self, spec: ContainerSpec) -> Container:
        """Everything but starting: root, networks, files, the paused process. Leaves nothing behind on failure."""
        record = Container(new_id(12), spec, created=time.time())
        life = Life(record, self._parts, self._monitor)
        await life.create()
        self._lives[record.id] = life
        return record

    async def start(self, container: str) -> None:
        """Idempotent: a running container stays as it is."""
        await self._life(container).start()

    async def stop(self, container: str, timeout: float | None = None) -> None:
        """The stop signal, then after ``timeout`` seconds SIGKILL. Idempotent; no restart follows."""
        await self._life(container).stop(timeout)

    async def remove(self, container: str) -> None:
        """End and remove it with everything it wrote outside volumes. Idempotent; after a failure it is still there."""
        life = self._lives.pop(container, None)
        if life is None:
            return
        try:
            await life.remove()
        except BaseException:
            self._lives[container] = life
            raise

    # With the server

    async def recover(self) -> None:
        """Find everything again after a start of the server. What is half made or half removed goes."""
        for record in self._parts.records():
            life = Life(record, self._parts, self._monitor)
            if record.state in ("running", "exited"):
                self._lives[record.id] = life
            else:
                await self._clear(life)
        await self._parts.keep_only(list(self._lives))
        for life in list(self._lives.values()):
            await life.resume()

    async def _clear(self, life: Life) -> None:
        try:
            await life.remove()
        except (SlipwayError, OSError) as error:
            log.warning("container %s is not gone, the next server tries again: %s", life.record.id, error)

    async def run_forever(self) -> None:
        """Notice containers that end."""
        for poll in itertools.count():
            ended = self._monitor.ended()
            for container, life in list(self._lives.items()):
                if life.record.running and (container in ended or poll % _ROUND == 0):
                    await life.look()
            await asyncio.sleep(_POLL)

    async def close(self) -> None:
        """Stop watching; containers go on."""
        await asyncio.gather(*(life.let_go() for life in self._lives.values()))
