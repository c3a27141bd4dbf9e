"""A container's life on a host that has no process or file left to give."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path

from slipway.runtime import Container, ContainerSpec, HealthCheck
from slipway.runtime.life import Life


class FewFiles:
    """Stands for parts and monitor. Every command fails at first."""

    def __init__(self) -> None:
        self.asked = 0
        self.code: int | None = None

    def save(self, container: Container) -> None:
        pass

    def bundle(self, container: str) -> Path:
        return Path("/nonexistent")

    def watches(self, container: str, bundle: Path) -> bool:
        return True

    def exit_code(self, container: str) -> int | None:
        return self.code

    async def probe(self, container: str, argv: Sequence[str], timeout: float) -> bool:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return True

    async def delete(self, container: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")


def _life(host: FewFiles) -> Life:
    spec = ContainerSpec("c", "i", "", ("true",), health=HealthCheck(("true",)))
    return Life(Container("c", spec, "running"), host, host)  # type: ignore[arg-type]


async def test_a_health_check_that_could_not_be_run_is_run_again() -> None:
    host = FewFiles()
    life = _life(host)
    await life.resume()
    assert await life.wait(lambda item: item.health == "healthy", 30)
    assert host.asked == 2
    await life.let_go()


async def test_its_end_is_noticed() -> None:
    host = FewFiles()
    life = _life(host)
    host.code = 7
    await asyncio.wait_for(life.look(), 30)
    assert (life.record.state, life.record.exit_code) == ("exited", 7)
