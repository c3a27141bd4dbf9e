"""An overlay's upper directory read as a layer."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from slipway.base import linux
from slipway.content import LocalStore
from slipway.errors import Invalid
from slipway.layers import Entry, Layer, apply_layer, diff_upper, write_layer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted attributes need root")

V2 = bytes.fromhex("0100000200200000000000000000000000000000")
V3 = bytes.fromhex("0100000300200000000000000000000000000000") + (100000).to_bytes(4, "little")


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    path = tmp_path / "upper"
    path.mkdir()
    return path


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def diff(upper: Path) -> list[Entry]:
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return list(diff_upper(fd))
    finally:
        os.close(fd)


def written(store: LocalStore, upper: Path) -> Layer:
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return write_layer(store, diff_upper(fd))
    finally:
        os.close(fd)


def test_an_upper_directory_becomes_sorted_entries(upper: Path) -> None:
    (upper / "b").mkdir(mode=0o750)
    (upper / "b" / "z").write_bytes(b"12345")
    (upper / "b" / "a").symlink_to("z")
    (upper / "a").write_bytes(b"")
    os.mkfifo(upper / "c")
    os.mknod(upper / "d", stat.S_IFBLK | 0o600, os.makedev(7, 9))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(upper / "socket"))
    whiteout(upper / "gone")
    found = diff(upper)
    assert [(entry.path, entry.kind) for entry in found] == [
        ("a", "file"), ("b", "dir"), ("b/a", "symlink"), ("b/z", "file"), ("c", "fifo"), ("d", "block"),
        (".wh.gone", "file"),
    ]  # fmt: skip
    assert found[5].device == (7, 9)
    assert found[3].size == 5
    assert found[1].mode == 0o750


@pytest.mark.parametrize("kind", ["trusted", "user"])
def test_opaque_directories_are_marked_before_what_is_in_them(
    upper: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "in_user_namespace", lambda: kind == "user")
    (upper / "d").mkdir()
    (upper / "d" / "a").write_bytes(b"")
    os.setxattr(upper / "d", f"{kind}.overlay.opaque", b"y")
    found = diff(upper)
    assert [entry.path for entry in found] == ["d", "d/.wh..wh..opq", "d/a"]
    assert not any(entry.xattrs for entry in found)


def test_an_attribute_that_a_step_has_set_itself_makes_nothing_opaque(upper: Path) -> None:
    """The overlay does not look at it, so the snapshot shows what is below: the layer must not hide that."""
    (upper / "d").mkdir()
    os.setxattr(upper / "d", "user.overlay.opaque", b"y")
    assert [entry.path for entry in diff(upper)] == ["d"]


def test_a_link_that_takes_the_place_of_a_directory_meanwhile_leads_nowhere(
    upper: Path, tmp_path: Path
) -> None:
    """As a step can do it to a kept directory while that is exported."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "shadow").write_bytes(b"root:secret")
    (upper / "d").mkdir()
    (upper / "d" / "shadow").write_bytes(b"root:xxxxxx")
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = list(diff_upper(fd))
        (upper / "d").rename(upper / "gone")
        (upper / "d").symlink_to(tmp_path / "host")
        with pytest.raises(Invalid, match="changed while it was read"):
            write_layer(LocalStore(tmp_path / "store"), found)
    finally:
        os.close(fd)


def test_a_pipe_that_takes_the_place_of_a_file_meanwhile_is_not_waited_for(
    upper: Path, tmp_path: Path
) -> None:
    (upper / "a").write_bytes(b"1")
    fd = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = list(diff_upper(fd))
        (upper / "a").unlink()
        os.mkfifo(upper / "a")
        with pytest.raises(Invalid, match="changed while it was read"):
            write_layer(LocalStore(tmp_path / "store"), found)
    finally:
        os.close(fd)


def test_hard_links_are_kept(upper: Path) -> None:
    (upper / "d").mkdir()
    (upper / "d" / "a").write_bytes(b"1")
    os.link(upper / "d" / "a", upper / "z")
    assert [(entry.path, entry.kind, entry.target) for entry in diff(upper)][1:] == [
        ("d/a", "file", ""),
        ("z", "hardlink", "d/a"),
    ]


def test_attributes_travel_without_the_overlays_and_the_hosts(upper: Path) -> None:
    (upper / "a").write_bytes(b"")
    for name in ("user.kept", "user.overlay.origin", "trusted.overlay.metacopy", "trusted.x"):
        os.setxattr(upper / "a", name, b"1")
    os.setxattr(upper / "a", "security.capability", V2)
    assert diff(upper)[0].xattrs == {"user.kept": b"1", "security.capability": V2}


def test_capabilities_lose_the_user_namespace(upper: Path) -> None:
    (upper / "a").write_bytes(b"")
    os.setxattr(upper / "a", "security.capability", V3)
    assert diff(upper)[0].xattrs == {"security.capability": V2}


def test_names_that_mean_deletion_are_refused(upper: Path) -> None:
    (upper / "d").mkdir()
    (upper / "d" / ".wh.x").write_bytes(b"")
    with pytest.raises(Invalid, match=r"d/\.wh\.x"):
        diff(upper)


def test_trees_too_deep_are_refused(upper: Path) -> None:
    """A RUN can make them deeper than any path, level by level."""
    here = os.getcwd()
    try:
        os.chdir(upper)
        for _ in range(400):
            os.mkdir("d" * 20)
            os.chdir("d" * 20)
    finally:
        os.chdir(here)
    with pytest.raises(Invalid, match="too deep"):
        diff(upper)


def test_what_a_diff_says_is_what_a_layer_restores(upper: Path, tmp_path: Path) -> None:
    """Upper → layer → directory → the same diff again."""
    (upper / "etc").mkdir()
    (upper / "etc" / "conf").write_bytes(b"x" * 100_000)
    (upper / "etc" / "conf").chmod(0o4711)
    os.chown(upper / "etc" / "conf", 33, 44)
    os.setxattr(upper / "etc" / "conf", "user.note", b"n")
    os.link(upper / "etc" / "conf", upper / "other")
    (upper / "var").mkdir()
    os.setxattr(upper / "var", "trusted.overlay.opaque", b"y")
    (upper / "var" / "ü").symlink_to("/etc")
    whiteout(upper / "gone")
    for path in (upper / "etc" / "conf", upper / "etc", upper / "var"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    os.utime(upper / "var" / "ü", (5, 5), follow_symlinks=False)
    store = LocalStore(tmp_path / "store")
    layer = written(store, upper)
    (tmp_path / "again").mkdir()
    fd = os.open(tmp_path / "again", os.O_RDONLY)
    try:
        with store.open(layer.descriptor.digest) as stream:
            applied = apply_layer(stream, fd, compression="gzip")
    finally:
        os.close(fd)
    assert (applied.diff_id, applied.uncompressed) == (layer.diff_id, layer.uncompressed)
    assert diff(tmp_path / "again") == diff(upper)
    assert written(store, tmp_path / "again") == layer
