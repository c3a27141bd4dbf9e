"""Kept directories of one server: who uses which, and what all of them take."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from slipway.base.progress import Event
from slipway.build.cache_images import CacheTarget
from slipway.build.cache_mounts import CacheMounts
from slipway.build.dockerfile import CacheMount
from slipway.build.request import Solved
from slipway.build.solve import Reporter, exporting
from slipway.content import LocalStore, holding
from slipway.layers import Entry
from slipway.oci import ImageConfig, Platform, Reference


def mount(sharing: Literal["shared", "private", "locked"], name: str = "c") -> CacheMount:
    return CacheMount("/c", name, uid=os.getuid(), gid=os.getgid(), sharing=sharing)


async def test_what_one_project_keeps_hides_no_other_from_being_counted(tmp_path: Path) -> None:
    """A step can make a path that is too long for the kernel to be named at once."""
    caches = CacheMounts(tmp_path)
    async with caches.use("hostile", mount("shared")) as path:
        fd = os.open(path, os.O_RDONLY)
        for _ in range(60):
            os.mkdir("d" * 100, dir_fd=fd)
            below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
    async with caches.use("other", mount("shared")) as path:
        (path / "file").write_bytes(bytes(1 << 20))
    found = {item.scope: item.size for item in caches.usage()}
    assert found.keys() == {"hostile", "other"}
    assert found["other"] >= 1 << 20
    assert await caches.remove("hostile", "c")


async def test_a_directory_that_is_removed_is_still_one_steps_alone(tmp_path: Path) -> None:
    """It is removed between one step that had it alone and the next that has waited for that."""
    caches = CacheMounts(tmp_path)
    inside, most = 0, 0

    async def step() -> None:
        nonlocal inside, most
        async with caches.use("p", mount("locked")):
            inside += 1
            most = max(most, inside)
            for _ in range(20):
                await asyncio.sleep(0)
            inside -= 1

    async with caches.use("p", mount("locked")):
        waits = asyncio.create_task(step())
        while not caches._changed._waiters:
            await asyncio.sleep(0)
        removed = asyncio.create_task(caches.remove("p", "c"))
    await asyncio.gather(waits, step(), step())
    assert await removed
    assert most == 1


async def test_a_directory_that_changes_while_it_is_exported_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build's step uses it: that fails neither of them."""

    def vanishing(fd: int) -> Iterator[Entry]:
        raise FileNotFoundError("a file that has just gone")

    monkeypatch.setattr(exporting, "diff_upper", vanishing)
    blobs, caches = LocalStore(tmp_path / "store"), CacheMounts(tmp_path / "caches")
    async with caches.use("p", mount("shared")):
        pass
    events: list[Event] = []
    solved = Solved(ImageConfig(Platform.host()), (), False, mounts=(mount("shared"),))
    target = CacheTarget(Reference.parse("r.example/p/cache"))
    async with holding(blobs, "test") as lease:
        reporter = Reporter("b", "", lambda event: events.append(dict(event)))
        made = await exporting.exported(solved, target, "p", blobs, caches, lease, reporter)
    assert made.mounts == {}
    assert "'c' is in use and was left out" in str(events[0]["text"])
