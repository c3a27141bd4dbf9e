"""The merged view on layers made by hand."""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base import linux
from slipway.errors import Conflict, Invalid, NotFound
from slipway.snapshots import RootView

Layers = Callable[..., RootView]


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layers:
    """Views over layers, top first, each a mapping of paths to what is there, with attributes that need no root."""
    monkeypatch.setattr(linux, "in_user_namespace", lambda: True)

    def make(*contents: dict[str, str]) -> RootView:
        roots = []
        for index, content in enumerate(contents):
            root = tmp_path / f"layer{index}"
            root.mkdir()
            roots.append(root)
            for path, what in content.items():
                _put(root / path, what)
        return RootView(roots)

    return make


def _put(path: Path, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "whiteout":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    elif what in ("dir", "opaque"):
        path.mkdir(exist_ok=True)
        if what == "opaque":
            os.setxattr(path, "user.overlay.opaque", b"y")
    elif what.startswith("-> "):
        path.symlink_to(what[3:])
    else:
        path.write_text(what)


def _walk(view: RootView) -> list[str]:
    return [entry.path for entry in view.walk("")]


def test_upper_layers_win_and_directories_merge(layers: Layers) -> None:
    view = layers({"etc/a": "new", "etc/c": "c"}, {"etc/a": "old", "etc/b": "b", "bin/sh": "sh"})
    assert _walk(view) == ["bin", "bin/sh", "etc", "etc/a", "etc/b", "etc/c"]
    assert view.read("etc/a") == b"new"
    assert view.read("etc/b") == b"b"
    assert view.lstat("etc/a") == next(entry for entry in view.iterdir("etc") if entry.path == "etc/a")


def test_whiteouts_hide_and_what_is_made_again_begins_anew(layers: Layers) -> None:
    view = layers({"a": "whiteout"}, {"a/x": "x", "b": "whiteout", "c": "file"}, {"b/y": "y", "c/z": "z"})
    assert _walk(view) == ["c"]
    assert view.lstat("a") is None
    assert view.lstat("a/x") is None
    assert view.lstat("b/y") is None
    assert view.lstat("c/z") is None
    assert view.iterdir("c") == []


def test_a_whiteout_between_directories_cuts_the_merge(layers: Layers) -> None:
    view = layers({"d/top": "1"}, {"d": "whiteout"}, {"d/bottom": "2"})
    assert _walk(view) == ["d", "d/top"]


def test_opaque_directories_hide_what_is_below_them(layers: Layers) -> None:
    view = layers({"d/sub/1": "1"}, {"d/sub": "opaque", "d/2": "2"}, {"d/sub/3": "3", "d/4": "4"})
    assert _walk(view) == ["d", "d/2", "d/4", "d/sub", "d/sub/1"]
    assert view.lstat("d/sub/3") is None


def test_a_file_hides_a_directory_and_the_other_way_round(layers: Layers) -> None:
    view = layers({"one": "file", "two/x": "x"}, {"one/y": "y", "two": "file"}, {"two/z": "z"})
    assert _walk(view) == ["one", "two", "two/x"]


def test_symlinks_resolve_inside_the_root(layers: Layers, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host")
    links = {"etc": "-> usr/etc", "lib": "-> /usr/lib", "up": "-> ../../../../secret", "out": "-> /secret"}
    view = layers({**links, "usr/etc/passwd": "root", "usr/lib/x/back": "-> ../../etc"})
    assert view.resolve("etc/passwd") == "usr/etc/passwd"
    assert view.resolve("/etc//./passwd") == "usr/etc/passwd"
    assert view.resolve("lib/x/back/passwd") == "usr/etc/passwd"
    assert view.resolve("../../etc/passwd") == "usr/etc/passwd"
    assert view.resolve("etc", follow=False) == "etc"
    assert view.resolve("") == ""
    assert view.resolve("up") is None
    assert view.read("out") is None
    assert view.lstat("etc/passwd") is None, "lstat follows nothing, not even in parents"


def test_parents_of_the_root_and_strange_paths_are_not_there(layers: Layers) -> None:
    view = layers({"a/b": "b"})
    for path in ("..", "a/..", ".", "a/.", "a//b", "/a", "a/", "a\0b", "x" * 300, "a/b/c", "y/" * 3000 + "z"):
        assert view.lstat(path) is None, path
    assert view.resolve("x" * 300) is None
    assert view.resolve("a/b/") == "a/b"


def test_symlink_loops_are_refused_after_forty(layers: Layers) -> None:
    chain = {f"l{number}": f"-> l{number + 1}" for number in range(60)}
    view = layers({"a": "-> b", "b": "-> a", "l60": "end", **chain})
    with pytest.raises(Invalid, match="too many symlinks in 'a'"):
        view.resolve("a")
    assert view.resolve("l20") == "l60"
    with pytest.raises(Invalid, match="too many"):
        view.resolve("l19")


def test_only_files_open(layers: Layers) -> None:
    view = layers({"dir": "dir", "link": "-> file", "file": "text"})
    with view.open("file") as handle:
        assert handle.read() == b"text"
    for path in ("dir", "link", "missing"):
        with pytest.raises(NotFound, match=path):
            view.open(path)
    assert view.read("link") == b"text"
    assert view.read("link", 2) == b"te"
    assert view.read("dir") is None


def test_entries_outlive_their_view_unless_it_is_closed(layers: Layers) -> None:
    entries = layers({"file": "text"}).iterdir("")
    gc.collect()
    opened = entries[0].open
    assert opened is not None
    with os.fdopen(opened()) as handle:
        assert handle.read() == "text"


def test_a_closed_view_opens_nothing_else(layers: Layers) -> None:
    with layers({"file": "text"}) as view:
        opened = view.iterdir("")[0].open
    assert opened is not None
    with pytest.raises(Conflict, match="closed"):
        opened()
    with pytest.raises(Conflict, match="closed"):
        view.open("file")


def test_no_descriptor_stays_open(layers: Layers) -> None:
    before = len(os.listdir("/proc/self/fd"))
    view = layers({f"d{number}/file": "x" for number in range(200)})
    assert len(list(view.walk(""))) == 400
    assert len(os.listdir("/proc/self/fd")) - before < 140
    del view
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_view_of_what_is_missing_leaks_nothing(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError):
        RootView([tmp_path / "there", tmp_path / "missing"])
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_layers_are_an_empty_root() -> None:
    with RootView([]) as view:
        assert _walk(view) == []
        root = view.lstat("")
        assert root is not None
        assert (root.kind, root.mode) == ("dir", 0o755)
        assert view.resolve("a") is None


def test_the_root_looks_as_the_top_layers_does(tmp_path: Path) -> None:
    for name, mode in (("top", 0o711), ("bottom", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    with RootView([tmp_path / "top", tmp_path / "bottom"]) as view:
        root = view.lstat("")
        assert root is not None
        assert root.mode == 0o711


_PATHS = st.text(alphabet="ab./\0\udc80é", max_size=24)


@given(path=_PATHS)
def test_no_path_leaves_the_root(path: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "fuzzed"
    if not root.exists():
        (root / "layer/a/b").mkdir(parents=True)
        (root / "layer/a/a").symlink_to("../../..")
        (root / "b").write_text("outside")
    with RootView([root / "layer"]) as view:
        found = view.resolve(path)
        assert found in (None, "", "a", "a/a", "a/b")
        entry = view.lstat(path)
        assert entry is None or entry.path in ("", "a", "a/a", "a/b")
