"""Finding programs that outlive the server by what they were started with: a pid file may be lost or lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path

_POLL = 0.02


def command(pid: int) -> list[str]:
    """The arguments of a living process; none of a zombie or of one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_ours(pid: int, program: str, word: str) -> bool:
    """Whether ``pid`` runs ``program`` with the argument ``word``, which is a path, and means the same file by it."""
    words = command(pid)
    if not words or os.path.basename(words[0]) != program or word not in words[1:]:
        return False
    with contextlib.suppress(OSError):
        # In another root the same path is another server's.
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
    return False


def find(program: str, word: str) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and is_ours(int(name), program, word)]


async def until_gone(program: str, word: str, seconds: float) -> bool:
    """Wait for all of them to end; whether they did in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while find(program, word):
                await asyncio.sleep(_POLL)
            return True
    return False


async def end(program: str, word: str, seconds: float, first: Collection[int] = ()) -> None:
    """Ask them to end (or only ``first`` of them, who end the others), and after ``seconds`` make them."""
    for pid in first or find(program, word):
        _signal(pid, signal.SIGTERM)
    if not await until_gone(program, word, seconds):
        for pid in find(program, word):
            _signal(pid, signal.SIGKILL)
        await until_gone(program, word, seconds)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
