"""A root with layers on top that are not unpacked answers as if they were."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipway.build.above import Above
from slipway.build.copy import Ownership, Placed
from slipway.content import LocalStore
from slipway.errors import Invalid
from slipway.layers import Entry, apply_layer, write_layer
from slipway.snapshots import RootView

NAMES = ["a", "b", "c"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
WANTED = st.lists(
    st.tuples(
        PATHS, st.sampled_from(["file", "dir", "symlink"]), st.sampled_from(["a", "/b", "../c", "b/c"])
    ),
    max_size=5,
)


def _entries(root: RootView | Above, wanted: list[tuple[str, str, str]]) -> list[Entry]:
    """What a COPY of these would write onto ``root``, without those that would be refused."""
    accepted: list[tuple[str, str, str]] = []
    for item in wanted:
        try:
            _placed(root, [*accepted, item])
        except Invalid:
            continue
        accepted.append(item)
    return _placed(root, accepted)


def _placed(root: RootView | Above, wanted: list[tuple[str, str, str]]) -> list[Entry]:
    placed = Placed(root, Ownership(0, 0), 1)
    for path, kind, target in wanted:
        real = placed.real(path)
        if kind == "symlink":
            placed.add(Entry(real, "symlink", 0o777, mtime=1, target=target))
        elif kind == "dir":
            placed.add(Entry(real, "dir", 0o755, mtime=1))
        else:
            placed.add(Entry(real, "file", 0o644, mtime=1, size=len(path), open=_opener(path)))
    return placed.entries()


def _opener(text: str) -> Callable[[], int]:
    def opened() -> int:
        fd = os.memfd_create("entry")
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    return opened


def _unpacked(store: LocalStore, entries: list[Entry], directory: Path, below: RootView) -> Path:
    directory.mkdir()
    layer = write_layer(store, entries)
    fd = os.open(directory, os.O_RDONLY)
    with store.open(layer.descriptor.digest) as stream:
        apply_layer(stream, fd, compression="gzip", parents=below.lstat)
    os.close(fd)
    return directory


@given(WANTED, WANTED, WANTED, st.lists(PATHS, min_size=1, max_size=6))
def test_it_answers_as_the_unpacked_layers_do(
    base: list[tuple[str, str, str]], first: list[tuple[str, str, str]], second: list[tuple[str, str, str]],
    asked: list[str],
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        store = LocalStore(Path(name) / "content")
        bottom = Path(name) / "0"
        with RootView([]) as nothing:
            _unpacked(store, _entries(nothing, base), bottom, nothing)
        with RootView([bottom]) as below:
            one = _entries(below, first)
            middle = _unpacked(store, one, Path(name) / "1", below)
            above = Above(below, {item.path: item for item in one})
            two = _entries(above, second)
            with RootView([middle, bottom]) as between:
                assert [_plain(item) for item in two] == [_plain(item) for item in _entries(between, second)]
                top = _unpacked(store, two, Path(name) / "2", between)
            above = Above(below, {item.path: item for item in (*one, *two)})
            with RootView([top, middle, bottom]) as real:
                for path in [*asked, *(path for path, _, _ in (*base, *first, *second))]:
                    _same(above, real, path)


def _same(above: Above, real: RootView, path: str) -> None:
    mine, theirs = above.lstat(path), real.lstat(path)
    assert (mine is None) == (theirs is None), path
    if mine is not None and theirs is not None:
        assert _plain(mine) == _plain(theirs)
    try:
        expected = real.resolve(path)
    except Invalid:
        return
    assert above.resolve(path) == expected
    assert above.read(path) == real.read(path)


def _plain(entry: Entry) -> tuple[object, ...]:
    return (entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.target)


def test_a_hard_link_is_read_through_its_target() -> None:
    with RootView([]) as nothing:
        above = Above(
            nothing,
            {
                "file": Entry("file", "file", 0o644, size=4, open=_opener("text")),
                "link": Entry("link", "hardlink", 0o644, target="file"),
            },
        )
        assert above.read("link") == b"text"
        assert above.read("none") is None
        assert above.read("file") == b"text"
