"""What a volume begins with."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from weakref import WeakValueDictionary

from slipway.base.process import run
from slipway.base.trees import remove_tree


class Volumes:
    """Fills empty volumes from images, each once, however many containers come with it at the same time.

    The copy is made beside the volume, as ``.NAME.copy``, and what is whole, ``.NAME.whole``, is moved in: a copy that
    was cut off is begun again, a move is finished, by the next container. Nothing is written through what is in the
    volume: another container may change that meanwhile, and make it lead anywhere.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def fill(self, volume: Path, source: Path | None) -> None:
        """A volume with nothing in it gets what is in the directory ``source``, owner and mode included."""
        lock = self._locks.setdefault(volume, asyncio.Lock())
        async with lock:
            volume.mkdir(parents=True, exist_ok=True)
            copy, whole = _beside(volume)
            if not whole.exists():
                if source is None or not source.is_dir() or any(volume.iterdir()):
                    return
                await asyncio.to_thread(remove_tree, copy)
                await run(["cp", "-a", "--", f"{source}/.", str(copy)])
                copy.rename(whole)
            await asyncio.to_thread(_move, whole, volume)


def remove_volume(volume: Path) -> None:
    """With what it was to be filled with. No container has it any more. Idempotent; blocks."""
    for path in (*_beside(volume), volume):
        remove_tree(path)


def _beside(volume: Path) -> tuple[Path, Path]:
    return volume.with_name(f".{volume.name}.copy"), volume.with_name(f".{volume.name}.whole")


def _move(whole: Path, volume: Path) -> None:
    """What somebody else has put there meanwhile stays."""
    for path in list(whole.iterdir()):
        if not os.path.lexists(volume / path.name):
            path.rename(volume / path.name)
    about = whole.stat()
    os.chown(volume, about.st_uid, about.st_gid)
    shutil.copystat(whole, volume)
    remove_tree(whole)
