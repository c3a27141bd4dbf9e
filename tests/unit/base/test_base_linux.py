"""Kernel calls that need no privilege."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from slipway.base import linux

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "dir").mkdir(parents=True)
    (inside / "dir/file").write_text("inside")
    (inside / "up").symlink_to("../secret")
    (inside / "absolute").symlink_to("/dir/file")
    return inside


def _read(root: Path, path: str, resolve: int) -> str:
    top = os.open(root, _DIRECTORY)
    try:
        with os.fdopen(linux.openat2(top, path, os.O_RDONLY, resolve=resolve)) as handle:
            return handle.read()
    finally:
        os.close(top)


def test_openat2_opens_beneath(tree: Path) -> None:
    assert _read(tree, "dir/file", linux.RESOLVE_BENEATH) == "inside"
    assert _read(tree, "dir/../dir/file", linux.RESOLVE_BENEATH) == "inside"


@pytest.mark.parametrize("path", ["up", "absolute", "../secret", "/dir/file"])
def test_openat2_never_leaves_the_directory(tree: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"secret|absolute|up|dir") as caught:
        _read(tree, path, linux.RESOLVE_BENEATH)
    assert caught.value.errno == errno.EXDEV


def test_openat2_can_take_the_directory_for_the_root(tree: Path) -> None:
    assert _read(tree, "absolute", linux.RESOLVE_IN_ROOT) == "inside"
    assert _read(tree, "/../../dir/file", linux.RESOLVE_IN_ROOT) == "inside"
    with pytest.raises(FileNotFoundError):
        _read(tree, "up", linux.RESOLVE_IN_ROOT)


def test_openat2_sets_close_on_exec_and_the_mode(tree: Path) -> None:
    top = os.open(tree, _DIRECTORY)
    fd = linux.openat2(top, "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    assert not os.get_inheritable(fd)
    assert os.fstat(fd).st_mode & 0o777 == 0o640
    os.close(fd)
    os.close(top)


def test_renameat2_replaces_nothing_or_exchanges(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    with pytest.raises(FileExistsError):
        linux.renameat2(one, two, linux.RENAME_NOREPLACE)
    linux.renameat2(one, two, linux.RENAME_EXCHANGE)
    assert (one.read_text(), two.read_text()) == ("2", "1")
    fd = os.open(tmp_path, _DIRECTORY)
    linux.renameat2("one", "three", linux.RENAME_NOREPLACE, old_dirfd=fd, new_dirfd=fd)
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["three", "two"]


def test_errors_carry_the_kernels_number_and_the_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        linux.openat2(linux.AT_FDCWD, "/nowhere/at/all", os.O_RDONLY, resolve=0)
    assert caught.value.filename == "/nowhere/at/all"
    with pytest.raises(OSError, match="syncfs"):
        linux.syncfs(-1)
    with pytest.raises(OSError, match="sync_file_range"):
        linux.start_writeback(-1, 0, 1)


def test_overlay_options_name_the_limit() -> None:
    data = linux.overlay_data(["a", "b"], "u", "w")
    assert data == f"{linux.OVERLAY_OPTIONS},lowerdir=a:b,upperdir=u,workdir=w"
    assert "upperdir" not in linux.overlay_data(["a", "b"])
    with pytest.raises(OSError, match="2000 layers") as caught:
        linux.overlay_data(["ab"] * 2000)
    assert caught.value.errno == errno.E2BIG
