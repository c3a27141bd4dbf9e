"""What a volume begins with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from weakref import WeakValueDictionary

from slipway.base.process import run


class Volumes:
    """Fills empty volumes from images, each once, however many containers come with it at the same time.

    A file beside the volume says that it is being filled: what was cut off is done again for the next container.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    async def fill(self, volume: Path, source: Path | None) -> None:
        """A volume with nothing in it gets what is in the directory ``source``, owner and mode included."""
        lock = self._locks.setdefault(volume, asyncio.Lock())
        async with lock:
            volume.mkdir(parents=True, exist_ok=True)
            unfinished = volume.with_name(f".{volume.name}.filling")
            if source is None or not source.is_dir():
                return
            if any(volume.iterdir()) and not unfinished.exists():
                return
            unfinished.touch()
            await run(["cp", "-a", "--", f"{source}/.", str(volume)])
            unfinished.unlink()
