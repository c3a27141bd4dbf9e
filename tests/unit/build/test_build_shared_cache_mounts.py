"""Kept directories on a volume that several workers have: two objects here stand for two processes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal

from slipway.build.dockerfile import CacheMount
from slipway.build.shared_cache_mounts import SharedCacheMounts


def mount(sharing: Literal["shared", "private", "locked"], name: str = "c") -> CacheMount:
    return CacheMount("/c", name, sharing=sharing)


async def test_sharing_holds_between_processes(tmp_path: Path) -> None:
    one, two = SharedCacheMounts(tmp_path), SharedCacheMounts(tmp_path)
    async with one.use("p", mount("shared")) as first, two.use("p", mount("shared")) as second:
        assert first == second
        (first / "kept").write_text("x")
        async with two.use("q", mount("shared")) as foreign:
            assert foreign != first
    async with one.use("p", mount("locked")) as first:
        assert (first / "kept").exists()
        waits = asyncio.create_task(two.use("p", mount("locked")).__aenter__())
        shared = asyncio.create_task(two.use("p", mount("shared")).__aenter__())
        async with two.use("p", mount("private")) as private:
            assert private != first
            assert not (private / "kept").exists()
        done, _ = await asyncio.wait({waits, shared}, timeout=0.5)
        assert not done
    assert await asyncio.wait_for(asyncio.shield(waits), 20) == first
    shared.cancel()
    async with one.use("p", mount("private", "d")) as again:
        assert os.listdir(again) == []


class Full(SharedCacheMounts):
    """On a volume that has room for two."""

    def _free(self) -> float:
        return 0.05 if len(list(self._root.glob("[0-9a-f]*"))) > 2 else 0.3


async def test_a_full_volume_loses_what_was_not_used_for_longest(tmp_path: Path) -> None:
    full = Full(tmp_path)
    paths: dict[str, Path] = {}
    for age, name in enumerate("abcd"):
        async with full.use("p", mount("shared", name)) as path:
            paths[name] = path
        os.utime(path.parent, (1000 + age, 1000 + age))
    other = SharedCacheMounts(tmp_path)
    async with other.use("p", mount("shared", "a")):
        os.utime(paths["a"].parent, (1000, 1000))
        await asyncio.to_thread(full.make_room)
        assert {name for name, path in paths.items() if path.exists()} == {"a", "d"}, "what is in use stays"
