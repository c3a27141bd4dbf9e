"""Layers unpacked: everything restored, nothing written elsewhere, whatever the archive says."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.errors import Invalid, SlipwayError, Unsupported
from slipway.layers import Applied, ApplyLimits, Entry, Kind, apply_layer
from slipway.layers.tar import END, header, padding
from slipway.oci import Digest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted attributes need root")

OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True)
class Item:
    entry: Entry
    body: bytes = b""


def file(path: str, body: bytes = b"", mode: int = 0o644, **rest: int) -> Item:
    return Item(Entry(path, "file", mode, size=len(body), **rest), body)  # type: ignore[arg-type]


def directory(path: str, mode: int = 0o755, mtime: float = 0) -> Item:
    return Item(Entry(path, "dir", mode, mtime=mtime))


def link(path: str, target: str, kind: Kind = "symlink") -> Item:
    return Item(Entry(path, kind, 0o777, target=target))


def archive(*items: Item) -> bytes:
    return b"".join(header(item.entry) + item.body + padding(len(item.body)) for item in items) + END


class Target:
    """A directory to unpack into, beside things that must not be touched."""

    def __init__(self, base: Path) -> None:
        self.root = base / "layer"
        self.root.mkdir(parents=True)
        (base / "outside").mkdir()
        (base / "outside" / "secret").write_text("secret")
        self._base = base
        self._before = self._outside()

    def apply(
        self, *items: Item, below: Mapping[str, Entry] | None = None, limits: ApplyLimits | None = None
    ) -> Applied:
        return self.raw(archive(*items), below=below, limits=limits)

    def raw(
        self,
        data: bytes,
        compression: str = "none",
        below: Mapping[str, Entry] | None = None,
        limits: ApplyLimits | None = None,
    ) -> Applied:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        opened = len(os.listdir("/proc/self/fd"))
        try:
            lower = below.get if below is not None else None
            return apply_layer(io.BytesIO(data), fd, compression=compression, parents=lower, limits=limits)
        finally:
            assert len(os.listdir("/proc/self/fd")) == opened
            os.close(fd)
            assert self._outside() == self._before
            assert threading.active_count() == 1

    def _outside(self) -> list[tuple[str, int, int]]:
        found = []
        for path in sorted(self._base.rglob("*")):
            if not path.is_relative_to(self.root):
                status = path.lstat()
                found.append((str(path), status.st_mode, status.st_mtime_ns if path.is_file() else 0))
        return found

    def lstat(self, path: str) -> os.stat_result:
        return (self.root / path).lstat()

    def is_whiteout(self, path: str) -> bool:
        status = self.lstat(path)
        return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

    def is_opaque(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            return os.getxattr(self.root / path, OPAQUE) == b"y"
        return False

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_directories_closed_to_their_owner_are_filled_by_others_than_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed when they are full; to root it would make no difference when."""
    seen: list[int] = []
    real = os.fchmod

    def fchmod(fd: int, mode: int) -> None:
        seen.append(mode)
        real(fd, mode)

    monkeypatch.setattr("os.fchmod", fchmod)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    target = Target(tmp_path)
    target.apply(directory("d", 0o555, mtime=9), directory("d/in", 0o500), file("d/in/file", b"a", 0o400))
    modes = [stat.S_IMODE(target.lstat(name).st_mode) for name in ("d", "d/in", "d/in/file")]
    assert modes == [0o555, 0o500, 0o400]
    assert seen == [0o755, 0o700, 0o400, 0o500, 0o555]
    assert target.lstat("d").st_mtime == 9


def test_everything_is_restored(target: Target) -> None:
    capability = {"security.capability": bytes.fromhex("0100000200200000000000000000000000000000")}
    target.apply(
        directory("d", 0o1777, mtime=1000),
        Item(Entry("d/tool", "file", 0o6755, 1000, 2000, 1234.5, 3, xattrs=capability), b"abc"),
        link("d/link", "/../../anything"),
        link("d/same", "d/tool", "hardlink"),
        Item(Entry("d/fifo", "fifo", 0o620, 5, 6, 7)),
        Item(Entry("d/null", "char", 0o666, device=(1, 3))),
        Item(Entry("", "dir", 0o711, mtime=77)),
    )  # fmt: skip
    tool = target.lstat("d/tool")
    assert (stat.S_IMODE(tool.st_mode), tool.st_uid, tool.st_gid, tool.st_mtime) == (0o6755, 1000, 2000, 1234)
    assert tool.st_ino == target.lstat("d/same").st_ino
    assert os.getxattr(target.root / "d/tool", "security.capability") == capability["security.capability"]
    assert os.readlink(target.root / "d/link") == "/../../anything"
    fifo, null, top = target.lstat("d/fifo"), target.lstat("d/null"), target.lstat("d")
    assert (stat.S_IMODE(fifo.st_mode), fifo.st_uid, fifo.st_gid, fifo.st_mtime) == (0o620, 5, 6, 7)
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev) == (True, os.makedev(1, 3))
    assert (stat.S_IMODE(top.st_mode), top.st_mtime) == (0o1777, 1000)
    assert (stat.S_IMODE(target.root.stat().st_mode), target.root.stat().st_mtime) == (0o711, 77)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_diff_id_covers_everything(target: Target, compression: str) -> None:
    data = archive(file("a", b"x" * 3_000_000)) + bytes(20480) + b"trailing"
    packers: dict[str, Callable[[bytes], bytes]] = {
        "none": bytes,
        "gzip": gzip.compress,
        "zstd": zstandard.ZstdCompressor().compress,
    }
    packed = packers[compression](data)
    assert target.raw(packed, compression) == Applied(Digest.of(data), len(data))


def test_the_last_of_several_entries_counts(target: Target) -> None:
    target.apply(
        file("a", b"1"), link("a", "x"), directory("a"), file("a/b", b"2"), directory("a", 0o700), file("c"),
        directory("d"), file("d/e/f"), file("d", b"3"), link("c", "/etc"), file("c", b"4"),
    )  # fmt: skip
    assert target.names() == ["a", "a/b", "c", "d"]
    assert stat.S_IMODE(target.lstat("a").st_mode) == 0o700
    assert (target.root / "c").read_bytes() == b"4"


def test_whiteouts_become_overlays(target: Target) -> None:
    target.apply(
        file("etc/.wh.gone"),
        directory("var"),
        file("var/.wh..wh..opq"),
        file("var/new"),
        file(".wh..wh.plnk"),
    )
    assert target.is_whiteout("etc/gone")
    assert target.is_opaque("var")
    assert target.names() == ["etc", "etc/gone", "var", "var/new"]


def test_a_whiteout_hides_lower_layers_only(target: Target) -> None:
    """Whatever the order: what this layer has stays, and what was below a deleted directory is gone."""
    target.apply(
        directory("a"), file("a/mine"), file(".wh.a"), file(".wh.b"), directory("b"), file("c"), file(".wh.c"),
        file(".wh.d"), file("d/implied"),
    )  # fmt: skip
    assert target.is_opaque("a")
    assert target.is_opaque("b")
    assert target.is_opaque("d")
    assert target.names() == ["a", "a/mine", "b", "c", "d", "d/implied"]


def test_a_whiteout_of_nothing_is_left_out(target: Target) -> None:
    """In a directory that only one layer has, overlayfs would list the device."""
    below = {
        "old": Entry("old", "file", 0o644),
        "d": Entry("d", "dir", 0o755),
        "d/x": Entry("d/x", "file", 0o644),
    }
    target.apply(
        file(".wh.old"),
        file(".wh.none"),
        directory("d"),
        file("d/.wh..wh..opq"),
        file("d/.wh.x"),
        below=below,
    )
    assert target.names() == ["d", "old"]


def test_implied_directories_are_like_those_below(target: Target) -> None:
    below = {"srv": Entry("srv", "dir", 0o2750, 3, 4, 500), "srv/x": Entry("srv/x", "file", 0o644)}
    target.apply(file("srv/data/a"), below=below)
    assert (stat.S_IMODE(target.lstat("srv").st_mode), target.lstat("srv").st_uid) == (0o2750, 3)
    assert target.lstat("srv").st_mtime == 500
    assert stat.S_IMODE(target.lstat("srv/data").st_mode) == 0o755


LINKS = {
    "lib": Entry("lib", "symlink", 0o777, target="usr/lib"),
    "usr": Entry("usr", "dir", 0o755),
    "usr/lib": Entry("usr/lib", "dir", 0o751),
    "usr/lib/deep": Entry("usr/lib/deep", "symlink", 0o777, target="../share/./deep"),
    "abs": Entry("abs", "symlink", 0o777, target="/../../../usr/lib"),
    "one": Entry("one", "symlink", 0o777, target="two"),
    "two": Entry("two", "symlink", 0o777, target="one"),
}


def test_implied_parents_follow_symlinks_of_lower_layers_inside(target: Target) -> None:
    """Else a layer with ``lib/x`` alone would put a directory over the ``lib`` link of a merged-usr system."""
    target.apply(
        file("lib/a"),
        file("abs/b"),
        file("lib/deep/c"),
        file("lib/.wh.deep"),
        file("lib/deep/d"),
        below=LINKS,
    )
    assert target.names() == [
        "usr", "usr/lib", "usr/lib/a", "usr/lib/b", "usr/lib/deep", "usr/lib/deep/d", "usr/share", "usr/share/deep",
        "usr/share/deep/c",
    ]  # fmt: skip
    assert stat.S_IMODE(target.lstat("usr/lib").st_mode) == 0o751


def test_an_entry_of_its_own_replaces_a_symlink_below(target: Target) -> None:
    target.apply(file("lib/a"), directory("lib"), file("lib/b"), below=LINKS)
    assert target.names() == ["lib", "lib/b", "usr", "usr/lib", "usr/lib/a"]


def test_symlinks_of_lower_layers_that_loop_are_refused(target: Target) -> None:
    with pytest.raises(Invalid, match="symlinks"):
        target.apply(file("one/a"), below=LINKS)


def test_a_hard_link_to_a_lower_file_becomes_a_copy(target: Target) -> None:
    def opened() -> int:
        fd = os.memfd_create("x")
        os.write(fd, b"below")
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    below = {"bin/a": Entry("bin/a", "file", 0o4755, 7, 8, 9, 5, open=opened)}
    target.apply(link("bin/b", "bin/a", "hardlink"), below=below)
    status = target.lstat("bin/b")
    assert (target.root / "bin/b").read_bytes() == b"below"
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o4755, 7, 9)


def test_hiding_all_layers_below_is_not_supported(target: Target) -> None:
    with pytest.raises(Unsupported):
        target.apply(file(".wh..wh..opq"), below={})


def test_many_directories_need_few_descriptors(target: Target) -> None:
    items = [file(f"{number % 150}/{number}") for number in range(400)]
    items += [file("/".join("x" * 200) + "/f"), link("l", "3/3", "hardlink")]
    target.apply(*items)
    assert target.lstat("3/3").st_nlink == 2


OUT = "../outside"
HOSTILE: dict[str, tuple[Item, ...]] = {
    "up": (file("../outside/x"),),
    "up in the middle": (file("a/../../outside/x"),),
    "up at the end": (directory("a/.."),),
    "through a symlink": (link("l", OUT), file("l/x")),
    "through an absolute symlink": (link("l", "/tmp"), file("l/x")),
    "through a symlink inside": (directory("d"), link("l", "d"), file("l/x")),
    "through a symlink to root": (link("l", "/"), file("l/etc/passwd")),
    "through a symlink of a parent": (directory("a"), link("a/l", f"../{OUT}"), file("a/l/deep/x")),
    "a directory through a symlink": (link("l", OUT), directory("l/x")),
    "a whiteout through a symlink": (link("l", OUT), file("l/.wh.secret")),
    "an opaque marker through a symlink": (link("l", OUT), file("l/.wh..wh..opq")),
    "a hard link through a symlink": (link("l", OUT), link("h", "l/secret", "hardlink")),
    "a hard link up": (link("h", "../outside/secret", "hardlink"),),
    "a hard link to an absolute path": (link("h", "/etc/passwd", "hardlink"),),
    "a hard link to nothing": (link("h", "nothing", "hardlink"),),
    "a hard link to itself": (link("h", "h", "hardlink"),),
    "a hard link to itself, existing": (file("h"), link("h", "./h", "hardlink")),
    "a hard link to a directory": (directory("d"), link("h", "d", "hardlink")),
    "a hard link to the root": (link("h", "/", "hardlink"),),
    "a hard link to a whiteout": (file(".wh.x"), link("h", "x", "hardlink")),
    "through a file": (file("f"), file("f/x")),
    "through a device": (Item(Entry("c", "char", 0o666, device=(1, 3))), file("c/x")),
    "through a fifo": (Item(Entry("p", "fifo", 0o666)), file("p/x")),
    "a forged whiteout": (Item(Entry("c", "char", 0o666)),),
    "a whiteout of nothing": (file(".wh."),),
    "a whiteout of itself": (file("d/.wh.."),),
    "a whiteout of the parent": (file("d/.wh..."),),
    "a file for the root": (file("./"[:1]),),
    "a symlink for the root": (link(".", "/"),),
    "a long name": (file("n" * 256),),
    "a long path": (file("/".join(["n" * 200] * 21)),),
    "a long symlink": (link("l", "t" * 4096),),
    "a deep path": (file("/".join("x" * 257)),),
}  # fmt: skip


@pytest.mark.parametrize("items", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("below", [None, {}], ids=["alone", "above"])
def test_hostile_archives_are_refused(
    target: Target, items: tuple[Item, ...], below: Mapping[str, Entry] | None
) -> None:
    with pytest.raises(Invalid) as caught:
        target.apply(*items, below=below)
    assert len(caught.value.message) < 600


def test_absolute_paths_are_relative(target: Target) -> None:
    target.apply(file("/etc/passwd", b"ours"), file("//x//./y"), link("h", "/etc/passwd", "hardlink"))
    assert target.names() == ["etc", "etc/passwd", "h", "x", "x/y"]


def test_attributes_that_would_steer_the_overlay_are_dropped(target: Target) -> None:
    steering = dict.fromkeys(
        ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "security.selinux"],
        b"y",
    )
    target.apply(Item(Entry("d", "dir", 0o755, xattrs={**steering, "user.kept": b"1"})))
    kept = os.listxattr(target.root / "d")
    assert not set(steering) & (set(kept) - {"security.selinux"})


def test_set_id_directories_do_not_pass_on_their_group(target: Target) -> None:
    target.apply(Item(Entry("d", "dir", 0o2755, 0, 50)), file("d/f"), directory("d/e"))
    assert (target.lstat("d/f").st_gid, target.lstat("d/e").st_gid) == (0, 0)
    assert stat.S_IMODE(target.lstat("d/e").st_mode) == 0o755


LIMITS: dict[str, tuple[ApplyLimits, tuple[Item, ...], str]] = {
    "entries": (ApplyLimits(entries=2), (file("a"), file("b"), file("c")), "entries than the limit of 2"),
    "bytes": (ApplyLimits(uncompressed=4000), (file("a", b"x" * 3000),), "limit of 4000 bytes"),
    "path": (ApplyLimits(path=10), (file("a/b/c/d/e/f"),), "11 bytes; the limit is 10"),
    "target": (ApplyLimits(path=10), (link("a", "b" * 11),), "11 bytes; the limit is 10"),
    "depth": (ApplyLimits(depth=3), (file("a/b/c/d"),), "limit of 3"),
}


@pytest.mark.parametrize(("limits", "items", "words"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_are_named(target: Target, limits: ApplyLimits, items: tuple[Item, ...], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        target.apply(*items, limits=limits)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_bombs_are_refused(target: Target, compression: str) -> None:
    data = archive(file("zeros", bytes(40_000_000)))
    packed = gzip.compress(data) if compression == "gzip" else zstandard.ZstdCompressor().compress(data)
    with pytest.raises(Invalid, match="100 times"):
        target.raw(packed, compression, limits=ApplyLimits(ratio=100, ratio_from=1_000_000))
    with pytest.raises(Invalid, match="limit of 5000000 bytes"):
        target.raw(packed, compression, limits=ApplyLimits(uncompressed=5_000_000))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_cut_and_damaged_blobs_are_refused(tmp_path: Path, compression: str) -> None:
    data = archive(file("a", os.urandom(50_000)), file("b", b"b" * 50_000))
    pack = gzip.compress if compression == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress
    packed = pack(data)
    for number, at in enumerate((1, 100, len(packed) // 2, len(packed) - 1)):
        with pytest.raises(Invalid):
            Target(tmp_path / f"cut{number}").raw(packed[:at], compression)
        damaged = bytearray(packed)
        damaged[at] ^= 0xFF
        with pytest.raises(Invalid):
            Target(tmp_path / f"flip{number}").raw(bytes(damaged), compression)
    with pytest.raises(Invalid, match="unknown"):
        Target(tmp_path / "x").raw(packed, "lz4")


parts = st.sampled_from(["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", "..", ".", "outside", "secret"])
some_paths = st.lists(parts, max_size=4).map("/".join) | st.lists(parts, max_size=3).map(
    lambda p: "/" + "/".join(p)
)


@st.composite
def hostile_items(draw: st.DrawFn) -> Item:
    kinds: list[Kind] = ["file", "dir", "symlink", "hardlink", "char", "fifo"]
    kind = draw(st.sampled_from(kinds))
    entry = Entry(draw(some_paths), kind, draw(st.sampled_from([0, 0o755, 0o7777])), target=draw(some_paths))
    return Item(entry)


@settings(max_examples=150, deadline=None)
@given(st.lists(hostile_items(), max_size=10), st.booleans())
def test_no_archive_gets_out(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item], above: bool
) -> None:
    """Nothing beside the layer changes, and nothing but our own errors comes out."""
    with fresh(tmp_path_factory) as target, contextlib.suppress(SlipwayError):
        target.apply(*items, below=LINKS if above else None)


@contextlib.contextmanager
def fresh(factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield Target(factory.mktemp("target"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(hostile_items(), max_size=5),
    st.sampled_from(["none", "gzip", "zstd"]),
    st.lists(st.tuples(st.integers(0, 2**14), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
)
def test_damaged_archives_do_not_get_out_either(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[Item],
    compression: str,
    damage: list[tuple[int, bytes]],
) -> None:
    packed = archive(*items)
    if compression == "gzip":
        packed = gzip.compress(packed)
    elif compression == "zstd":
        packed = zstandard.ZstdCompressor().compress(packed)
    for where, piece in damage:
        at = where % (len(packed) + 1)
        packed = packed[:at] + piece + packed[at + len(piece) :]
    with fresh(tmp_path_factory) as target, contextlib.suppress(SlipwayError):
        target.raw(packed, compression)


def test_devices_are_left_out_where_nobody_is_to_have_them(tmp_path: Path) -> None:
    special = [Item(Entry(f"a-{kind}", kind, 0o666, device=(1, 5))) for kind in ("char", "block", "fifo")]
    target = Target(tmp_path)
    target.apply(*special, file("z"), limits=ApplyLimits(devices=False))
    assert sorted(os.listdir(target.root)) == ["a-fifo", "z"]
