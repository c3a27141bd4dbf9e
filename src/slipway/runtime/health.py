"""Health checks: Docker's states, quick at the start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from slipway.runtime.spec import HealthCheck

_FIRST, _GROWTH, _QUICK = 0.05, 1.5, 1.0
Probe = Callable[[], Awaitable[bool]]
Tell = Callable[[str], None]


@dataclass(slots=True)
class HealthState:
    """Decides from results; no clock and no process of its own."""

    check: HealthCheck
    status: str = "starting"
    failures: int = 0
    quick: float = _FIRST

    def result(self, ok: bool, age: float) -> str:
        """The status after one probe of a container that is ``age`` seconds old."""
        if ok:
            self.status, self.failures = "healthy", 0
        elif self.status == "starting" and age < self.check.start_period:
            self.failures = 0  # within the start period a failure says nothing
        else:
            self.failures += 1
            if self.failures >= self.check.retries:
                self.status = "unhealthy"
        return self.status

    def wait(self, age: float) -> float:
        """Seconds until the next probe: short and growing until the first success, so that a start is seen soon."""
        if self.status == "healthy" or self.status == "unhealthy":
            return self.check.interval
        if age < self.check.start_period or not self.failures:
            delay, self.quick = self.quick, min(self.quick * _GROWTH, _QUICK, self.check.start_interval)
            return delay
        return min(self.check.interval, max(self.quick, _QUICK))


async def watch(check: HealthCheck, started: float, probe: Probe, tell: Tell) -> None:
    """Probe until cancelled; ``tell`` hears every change."""
    state = HealthState(check)
    tell(state.status)
    while True:
        before = state.status
        status = state.result(await probe(), time.time() - started)
        if status != before:
            tell(status)
        await asyncio.sleep(state.wait(time.time() - started))
