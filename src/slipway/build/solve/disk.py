"""The limit of what one step writes. It is looked at while the step runs, so a fast one gets a little beyond it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from slipway.build.sandbox import Limits
from slipway.errors import Exhausted

T = TypeVar("T")
_LEAST_SECONDS = 1.0
_SHARE = 10
"""Looking takes at most a tenth of the time."""


async def bounded(work: Coroutine[object, object, T], upper: Path, limits: Limits) -> T:
    """``work``'s result. Raises ``Exhausted``, after ``work`` was cancelled, when ``upper`` holds more than allowed."""
    if not limits.disk:
        return await work
    task = asyncio.ensure_future(work)
    pause = _LEAST_SECONDS
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=pause)
            if task.done():
                break
            began = time.monotonic()
            used = await asyncio.to_thread(_usage, upper)
            pause = max(_LEAST_SECONDS, _SHARE * (time.monotonic() - began))
            if used > limits.disk:
                raise Exhausted(
                    f"the step wrote more than its limit of {limits.disk >> 20} MiB",
                    hint="raise build.disk, or the project's: slipway project build-policy PROJECT --disk SIZE",
                )
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _usage(directory: Path) -> int:
    """Bytes on disk; files may come and go meanwhile, which ``du`` complains about and counts on."""
    done = subprocess.run(["du", "-sx", "-B1", str(directory)], capture_output=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0
