"""Removing and measuring trees that somebody else filled."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from slipway.base.trees import disk_usage, remove_tree


def test_a_tree_goes_and_its_neighbours_stay(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a/b/c").mkdir(parents=True)
    (tree / "a/b/file").write_text("x")
    (tree / "a/away").symlink_to(tmp_path)
    os.mkfifo(tree / "fifo")
    remove_tree(tree)
    assert os.listdir(tmp_path) == ["kept"]


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")


def test_a_file_and_a_symlink_are_removed_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "plain").touch()
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "plain")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["kept", "kept/file"]


def test_depth_costs_neither_recursion_nor_descriptors(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(3000):  # far longer than any path may be
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 10  # whatever other tests have open
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
    try:
        remove_tree(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert os.listdir(tmp_path) == []


def test_unreadable_directories_and_names_of_its_own_do_not_stop_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in (".removing-0", ".removing-1", "z"):
        (tree / name / "inner/more").mkdir(parents=True)
    (tree / "z/inner").chmod(0)
    (tree / "z").chmod(0)
    tree.chmod(0)
    remove_tree(tree)
    assert not tree.exists()


def test_what_a_tree_takes_is_known_however_deep_it_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with os.fdopen(os.open("file", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=fd), "wb") as handle:
        handle.write(bytes(1 << 20))
    os.link("file", "same", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)
    (tmp_path / "other").write_bytes(bytes(1 << 20))
    assert 1 << 20 <= disk_usage(tree) < 2 << 20
    assert 2 << 20 <= disk_usage(tree, tmp_path / "other") < 3 << 20
    assert disk_usage() == disk_usage(tmp_path / "none") == 0
    remove_tree(tree)
