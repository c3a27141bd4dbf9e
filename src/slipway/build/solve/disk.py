"""The limit of what one step writes. It is looked at while the step runs, so a fast one gets a little beyond it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TypeVar

from slipway.base.trees import disk_usage
from slipway.build.sandbox import Limits
from slipway.errors import Exhausted

T = TypeVar("T")
_LEAST_SECONDS = 1.0
_SHARE = 10
"""Looking takes at most a tenth of the time."""


async def bounded(
    work: Coroutine[object, object, T], own: Path, limits: Limits, kept: Sequence[Path] = ()
) -> T:
    """``work``'s result. Raises ``Exhausted``, after ``work`` was cancelled, when it has written more than allowed.

    That is all that is in ``own``, and by how much the ``kept`` directories, which others write to as well, have grown
    since they were looked at first.
    """
    if not limits.disk:
        return await work
    task = asyncio.ensure_future(work)
    pause = _LEAST_SECONDS
    before: int | None = None
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=pause)
            if task.done():
                break
            began = time.monotonic()
            used = await asyncio.to_thread(disk_usage, own)
            there = await asyncio.to_thread(disk_usage, *kept)
            pause = max(_LEAST_SECONDS, _SHARE * (time.monotonic() - began))
            before = there if before is None else before
            if used + there - before > limits.disk:
                raise Exhausted(
                    f"the step wrote more than its limit of {limits.disk >> 20} MiB",
                    hint="raise build.disk, or the project's: slipway project build-policy PROJECT --disk SIZE",
                )
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
