"""Files of an earlier tree are linked if, and only if, nothing about them differs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.layers import Entry, apply_layer, write_layer

FILE = Entry("d/file", "file", 0o644, os.geteuid(), os.getegid(), 1000.5, 4, chunks=lambda: iter([b"same"]))
DIRECTORY = Entry("d", "dir", 0o755, os.geteuid(), os.getegid(), 1.0)


def unpacked(store: LocalStore, entries: list[Entry], target: Path, sibling: Path | None = None) -> Path:
    layer = write_layer(store, entries)
    target.mkdir()
    fd = os.open(target, os.O_RDONLY)
    kin = os.open(sibling, os.O_RDONLY) if sibling else None
    try:
        with store.open(layer.descriptor.digest) as stream:
            applied = apply_layer(stream, fd, compression="gzip", sibling=kin)
        assert applied.diff_id == layer.diff_id
    finally:
        os.close(fd)
        if kin is not None:
            os.close(kin)
    return target


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "content")


@pytest.fixture
def before(store: LocalStore, tmp_path: Path) -> Path:
    return unpacked(store, [DIRECTORY, FILE], tmp_path / "before")


def changed() -> Iterator[Entry]:
    yield replace(FILE, mode=0o600)
    yield replace(FILE, mtime=1001)
    yield replace(FILE, chunks=lambda: iter([b"diff"]))
    yield replace(FILE, size=5, chunks=lambda: iter([b"same!"]))
    yield replace(FILE, path="d/other")
    yield replace(FILE, xattrs={"user.x": b"1"})


def test_the_same_file_is_one_inode(store: LocalStore, before: Path, tmp_path: Path) -> None:
    after = unpacked(store, [DIRECTORY, FILE], tmp_path / "after", before)
    assert (after / "d" / "file").samefile(before / "d" / "file")


@pytest.mark.parametrize(
    "entry", list(changed()), ids=["mode", "time", "content", "size", "name", "attribute"]
)
def test_a_file_that_differs_is_another(
    store: LocalStore, before: Path, tmp_path: Path, entry: Entry
) -> None:
    after = unpacked(store, [DIRECTORY, entry], tmp_path / "after", before) / entry.path
    assert after.stat().st_nlink == 1
    assert entry.chunks is not None
    assert after.read_bytes() == b"".join(entry.chunks())
    assert (before / "d" / "file").read_bytes() == b"same"


def test_a_later_entry_of_the_same_name_replaces_the_link(
    store: LocalStore, before: Path, tmp_path: Path
) -> None:
    second = replace(FILE, chunks=lambda: iter([b"diff"]))
    after = unpacked(store, [DIRECTORY, FILE, second], tmp_path / "after", before)
    assert (after / "d" / "file").read_bytes() == b"diff"
    assert (before / "d" / "file").read_bytes() == b"same"
    back = unpacked(store, [DIRECTORY, second, FILE], tmp_path / "back", before)
    assert (back / "d" / "file").read_bytes() == b"same"


def test_a_sibling_cannot_lead_elsewhere(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"same")
    os.chown(outside / "file", FILE.uid, FILE.gid)
    (outside / "file").chmod(0o644)
    os.utime(outside / "file", (1000.5, 1000.5))
    (tmp_path / "kin").mkdir()
    (tmp_path / "kin" / "d").symlink_to(outside)
    after = unpacked(store, [DIRECTORY, FILE], tmp_path / "after", tmp_path / "kin")
    assert (after / "d" / "file").stat().st_nlink == 1
