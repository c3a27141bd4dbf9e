"""Containers on a machine without a platform, with the real OCI runtime, conmon and networks."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from slipway.app.machine import Machine, make_machine, take_down
from slipway.app.settings import Settings, load
from slipway.layers import import_tar
from slipway.runtime import Container, ContainerSpec
from slipway.snapshots import LayerRef
from slipway.testing.busybox import busybox_tar
from slipway.testing.platform import free_port

_POOL = "10.93.0.0/16"
_SECONDS = 60
B = TypeVar("B", bound="MachineBench")


class MachineBench:
    """A machine whose containers are looked after. Can be closed and opened as a server would."""

    machine: Machine

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.machine = await make_machine(self.settings)
        await self.machine.containers.recover()
        self.watching = asyncio.create_task(self.machine.containers.run_forever())

    async def close(self) -> None:
        if self.watching is not None:
            self.watching.cancel()
            await asyncio.gather(self.watching, return_exceptions=True)
        await self.machine.containers.close()


class ContainerBench(MachineBench):
    """Snapshots, networks and containers of busybox."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.chain = ""

    async def open(self) -> None:
        await super().open()
        if not self.chain:
            layer = import_tar(self.machine.blobs, io.BytesIO(busybox_tar()))
            self.chain = str(self.machine.snapshots.ensure([LayerRef(layer.diff_id, layer.descriptor)]))

    def spec(self, script: str, **values: object) -> ContainerSpec:
        spec = ContainerSpec(
            "test", "busybox", self.chain, ("/bin/sh", "-c", script), env=(("PATH", "/bin"),)
        )
        return replace(spec, stop_timeout=1, **values)  # type: ignore[arg-type]

    async def start(self, script: str, **values: object) -> Container:
        made = await self.machine.containers.create(self.spec(script, **values))
        await self.machine.containers.start(made.id)
        return made

    async def until(self, made: Container, done: Callable[[Container], bool]) -> None:
        assert await self.machine.containers.wait(made.id, done, _SECONDS), made

    async def output(self, script: str, **values: object) -> str:
        """What a container that ends by itself wrote."""
        made = await self.start(f"({script}) 2>&1", **values)
        await self.until(made, lambda item: not item.running)
        return await self.log(made)

    async def log(self, made: Container) -> str:
        return "\n".join([line.text async for line in self.machine.containers.logs(made.id)])

    async def inside(self, made: Container, script: str) -> str:
        async with self.machine.containers.command(made.id, ["/bin/sh", "-c", script], False) as command:
            said = [data async for stream, data in command.output() if stream == "stdout"]
        return b"".join(said).decode().strip()

    async def until_logged(self, made: Container, text: str) -> None:
        async with asyncio.timeout(_SECONDS):
            while text not in await self.log(made):
                await asyncio.sleep(0.02)


def machine_settings(directory: Path, pool: str) -> Settings:
    """``pool``: addresses that no other test's networks take."""
    words = {
        "data": directory / "data", "run": directory / "run", "apps.listen": f"127.0.0.1:{free_port()}",
        "network.pool": pool,
    }  # fmt: skip
    return load(None, {}, [f"{name}={value}" for name, value in words.items()])


@asynccontextmanager
async def opened(bench: B) -> AsyncIterator[B]:
    """Nothing is left of it afterwards."""
    bench.settings.data.mkdir(parents=True)
    try:
        await bench.open()
        yield bench
        await bench.close()
    finally:
        await take_down(bench.settings)


def container_bench(directory: Path) -> AbstractAsyncContextManager[ContainerBench]:
    return opened(ContainerBench(machine_settings(directory, _POOL)))


def group_pids(container: str) -> list[str]:
    """The processes of the host that are in the container's control group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if container in path.read_text():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not done():
            await asyncio.sleep(0.02)
