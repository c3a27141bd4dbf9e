"""The fingerprint of a directory changes with everything that a copy could see."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.build.copy import Remembered, fingerprint


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Looked at from the future, so that nothing in it is fresh."""
    real = time.time
    monkeypatch.setattr("slipway.build.copy.remembered.time.time", lambda: real() + 10)
    found = tmp_path / "tree"
    (found / "dir").mkdir(parents=True)
    (found / "file").write_text("one")
    (found / "dir" / "link").symlink_to("../file")
    return found


def look(tree: Path) -> bytes | None:
    fd = os.open(tree, os.O_RDONLY)
    try:
        return fingerprint(fd)
    finally:
        os.close(fd)


def _same_times(path: Path) -> None:
    """A change that sets the modification time back: the change time cannot be."""
    status = path.stat()
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _point_elsewhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


CHANGES: list[Callable[[Path], object]] = [
    lambda tree: _same_times(tree / "file"),
    lambda tree: (tree / "file").chmod(0o700),
    lambda tree: (tree / "new").touch(),
    lambda tree: (tree / "file").rename(tree / "other"),
    lambda tree: (tree / "file").unlink(),
    lambda tree: _point_elsewhere(tree / "dir" / "link"),
    lambda tree: (tree / "empty").mkdir(),
]


def test_nothing_changed(tree: Path) -> None:
    first = look(tree)
    assert first is not None
    assert look(tree) == first


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(tree: Path, change: Callable[[Path], object]) -> None:
    before = look(tree)
    time.sleep(0.01)  # the kernel's clock for file times ticks every few milliseconds
    change(tree)
    assert look(tree) not in (before, None)


def test_what_changed_just_now_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("one")
    changed = (tmp_path / "file").stat().st_mtime
    monkeypatch.setattr("slipway.build.copy.remembered.time.time", lambda: changed + 0.1)
    assert look(tmp_path) is None


def test_a_file_called_fresh_is_no_news(tree: Path) -> None:
    (tree / "fresh").write_text("x")
    (tree / "dir" / "fresh").symlink_to("fresh")
    assert look(tree) is not None


def test_the_oldest_is_forgotten() -> None:
    memory = Remembered()
    for number in range(10_001):
        memory.put(str(number).encode(), f"key {number}")
    assert (memory.get(b"0"), memory.get(b"10000")) == (None, "key 10000")
