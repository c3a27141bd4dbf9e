"""The tar codec: what is written is read back, by us and by others; what is damaged is refused by name."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.errors import Invalid
from slipway.layers import Entry, Kind
from slipway.layers.tar import END, TarReader, header, padding

Item = tuple[Entry, bytes]

names = st.one_of(
    st.text(min_size=1, max_size=60),
    st.binary(min_size=1, max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text("abc", min_size=90, max_size=160),
).filter(lambda name: not set(name) & {"/", "\0"} and name not in (".", "..") and _encodes(name))
paths = st.lists(names, min_size=1, max_size=5).map("/".join)
xattrs = st.dictionaries(
    st.sampled_from(["user.a", "user.ü", "security.capability", "user." + "x" * 200]),
    st.binary(max_size=40),
    max_size=2,
)


def _encodes(name: str) -> bool:
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == name
    except UnicodeEncodeError:
        return False


@st.composite
def items(draw: st.DrawFn) -> Item:
    kinds: list[Kind] = ["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]
    kind = draw(st.sampled_from(kinds))
    body = draw(st.binary(max_size=1500)) if kind == "file" else b""
    entry = Entry(
        draw(paths),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(0, 2**32 - 2)),
        draw(st.integers(-(2**35), 2**35)),
        len(body),
        draw(paths) if kind in ("symlink", "hardlink") else "",
        (draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1)))
        if kind in ("char", "block")
        else (0, 0),
        draw(xattrs),
    )
    return entry, body


def archive(*content: Item, end: bytes = END) -> bytes:
    return b"".join(header(entry) + body + padding(len(body)) for entry, body in content) + end


def read(data: bytes) -> list[Item]:
    found = []
    for entry in TarReader(io.BytesIO(data)):
        body = b"".join(entry.chunks()) if entry.chunks else b""
        path = entry.path.removesuffix("/") if entry.kind == "dir" else entry.path
        found.append((replace(entry, path=path, chunks=None), body))
    return found


def plain(path: str = "a", body: bytes = b"", kind: Kind = "file", target: str = "", **fields: int) -> Item:
    return Entry(path, kind, 0o644, target=target, size=len(body), **fields), body  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.lists(items(), max_size=4))
def test_what_was_written_is_read(content: list[Item]) -> None:
    assert read(archive(*content)) == content


@settings(max_examples=60, deadline=None)
@given(st.lists(items(), max_size=3))
def test_python_reads_the_same(content: list[Item]) -> None:
    with tarfile.open(
        fileobj=io.BytesIO(archive(*content)), encoding="utf-8", errors="surrogateescape"
    ) as other:
        for (entry, body), member in zip(content, other, strict=True):
            assert member.name == entry.path.rstrip("/")
            assert (member.uid, member.gid, int(member.mtime)) == (entry.uid, entry.gid, entry.mtime)
            assert member.mode == entry.mode
            assert member.linkname == entry.target
            if entry.kind == "file":
                handle = other.extractfile(member)
                assert handle is not None
                assert handle.read() == body


@settings(max_examples=60, deadline=None)
@given(st.lists(items(), max_size=3), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_what_python_writes_is_read(content: list[Item], form: int) -> None:
    types = {
        "file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
        "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE,
    }  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape"
    ) as other:
        for entry, body in content:
            member = tarfile.TarInfo(entry.path)
            member.type, member.linkname, member.size = types[entry.kind], entry.target, len(body)
            member.mode, member.uid, member.gid, member.mtime = (
                entry.mode,
                entry.uid,
                entry.gid,
                int(entry.mtime),
            )
            member.devmajor, member.devminor = entry.device
            other.addfile(member, io.BytesIO(body))
    assert read(buffer.getvalue()) == [(replace(entry, xattrs={}), body) for entry, body in content]


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "drop", "block"]),
        st.integers(0, 2**16),
        st.binary(max_size=12),
    ),
    min_size=1,
    max_size=6,
)


def mutated(data: bytes, mutations: Sequence[tuple[str, int, bytes]]) -> bytes:
    for kind, where, piece in mutations:
        at = where % (len(data) + 1)
        match kind:
            case "set":
                data = data[:at] + piece + data[at + len(piece) :]
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "drop":
                data = data[:at] + data[at + len(piece) :]
            case _:  # a header with a right checksum, but other content
                at -= at % 512
                block = bytearray(data[at : at + 512].ljust(512, b"\0"))
                spot = where % 480
                block[spot : spot + len(piece)] = piece
                block[148:156] = b" " * 8
                block[148:156] = b"%06o\0 " % sum(block[:512])
                data = data[:at] + bytes(block[:512]) + data[at + 512 :]
    return data


@settings(max_examples=400, deadline=None)
@given(st.lists(items(), min_size=1, max_size=3), MUTATIONS)
@example([plain()], [("block", 124, b"\xff" * 12)])
@example([plain("ü")], [("block", 124, b"\xff" * 12)])
@example([plain("ü")], [("block", 124, b"\x80" + b"\xff" * 11)])
@example([plain()], [("block", 136, b"\x80\xff\xff\xff\xff\xff\xff")])
def test_damage_is_invalid_and_nothing_else(
    content: list[Item], mutations: list[tuple[str, int, bytes]]
) -> None:
    with contextlib.suppress(Invalid):
        for entry, body in read(mutated(archive(*content), mutations)):
            assert len(body) == entry.size
            assert abs(entry.mtime) <= 2**40
            assert "\0" not in entry.path + entry.target
            assert all("\0" not in name for name in entry.xattrs)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2048))
def test_noise_is_invalid_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(Invalid):
        read(data)


def raw(path: bytes = b"a", kind: bytes = b"0", size: bytes = b"00000000000\0", body: bytes = b"") -> bytes:
    block = bytearray(header(Entry("x", "file", 0o644)))
    block[0:100], block[156:157], block[124:136] = path.ljust(100, b"\0"), kind, size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + body + padding(len(body))


def pax(body: bytes) -> bytes:
    return raw(b"pax", b"x", b"%011o\0" % len(body), body)


def record(text: bytes) -> bytes:
    length = next(size for size in range(200) if size == len(text) + 2 + len(str(size)))
    return b"%d %b\n" % (length, text)


BAD = {
    "checksum": (b"x" + raw()[1:], "checksum"),
    "cut inside a header": (raw()[:300], "cut short"),
    "cut inside a file": (raw(size=b"00000001000\0", body=b"x" * 100)[:612], "cut short"),
    "an extension and nothing": (pax(b"9 path=b\n"), "cut short"),
    "negative size": (raw(size=b"\xff" * 12), "size"),
    "negative size of an extension": (raw(kind=b"x", size=b"\xff" * 12), "size"),
    "giant size": (raw(size=b"\x80" + b"\xff" * 11), "size"),
    "size with letters": (raw(size=b"12x45678901\0"), "size"),
    "giant extension": (raw(kind=b"x", size=b"00010000000\0"), "limit"),
    "many extensions": (pax(b"9 path=b\n") * 17 + raw(), "more than 16"),
    "sparse (GNU)": (raw(kind=b"S"), "sparse"),
    "sparse (pax)": (pax(record(b"GNU.sparse.major=1")) + raw(), "sparse"),
    "unknown type": (raw(kind=b"Q"), "unknown type"),
    "pax without length": (pax(b"path=b\n") + raw(), "length"),
    "pax length too long": (pax(b"99 path=b\n") + raw(), "malformed"),
    "pax length too short": (pax(b"3 path=b\n") + raw(), "malformed"),
    "pax size negative": (pax(record(b"size=-5")) + raw(), "size"),
    "pax size giant": (pax(record(b"size=9999999999999999999")) + raw(), "size"),
    "pax uid": (pax(record(b"uid=4294967295")) + raw(), "uid"),
    "pax mtime": (pax(record(b"mtime=abc")) + raw(), "mtime"),
    "pax mtime giant": (pax(record(b"mtime=9999999999999999")) + raw(), "mtime"),
    "NUL in a path": (pax(record(b"path=b\0c")) + raw(), "NUL"),
    "NUL in an attribute": (pax(record(b"SCHILY.xattr.user.a\0b=1")) + raw(), "attribute"),
    "a link to nowhere": (raw(kind=b"2"), "nowhere"),
    "a file with a slash": (raw(b"a/", size=b"00000000003\0", body=b"abc"), "slash"),
    "half an end": (raw() + bytes(512) + raw(), "half an end"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), BAD.values(), ids=BAD.keys())
def test_malformed_archives_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read(data)


def test_only_files_have_bodies() -> None:
    """The size field of others says nothing (old archives give hard links their file's size), as in Go."""
    link = bytearray(raw(b"b", b"1", b"00000001000\0"))
    link[157:158] = b"a"
    link[148:156] = b" " * 8
    link[148:156] = b"%06o\0 " % sum(link)
    assert [entry.path for entry, _ in read(raw() + bytes(link) + raw(b"c"))] == ["a", "b", "c"]


def test_old_checksums_of_signed_bytes_are_right() -> None:
    block = bytearray(raw("ü".encode()))
    signed = sum(block[:148] + block[156:]) + 256 - 2 * 256
    block[148:156] = b"%06o\0 " % signed
    assert read(bytes(block))[0][0].path == "ü"


def test_small_reads_of_a_stream_make_no_difference() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    content = [plain("ü" * 100, b"x" * 1000), plain("b")]
    entries = [
        (entry.path, b"".join(entry.chunks())) for entry in TarReader(Slow(archive(*content))) if entry.chunks
    ]
    assert entries == [(entry.path, body) for entry, body in content]


def test_bodies_that_are_not_read_are_skipped() -> None:
    assert [entry.path for entry in TarReader(io.BytesIO(archive(plain("a", b"x" * 3000), plain("b"))))] == [
        "a",
        "b",
    ]


def test_plain_entries_cost_one_block() -> None:
    assert (
        len(header(Entry("usr/lib/python3/dist-packages/x.py", "file", 0o644, 1000, 1000, 1.7e9, 5))) == 512
    )
    assert len(header(Entry("d" * 120 + "/" + "f" * 90, "file", 0o644))) == 512  # in prefix and name
    assert len(header(Entry("ü", "file", 0o644))) == 3 * 512


def test_epoch_clamps_only_what_is_newer() -> None:
    for mtime, expected in ((5.9, 5), (99, 10), (-3, -3)):
        entry, _ = read(header(Entry("a", "file", 0o644, mtime=mtime), epoch=10) + END)[0]
        assert entry.mtime == expected


TREE = {
    "plain": b"hello",
    "ünïcode/" + "n" * 180: b"long " * 300,
    "/".join(["deep" * 20] * 4): b"",
    "with space\nand newline": b"x" * 512,
}


def make_tree(root: Path) -> None:
    for name, body in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, (1_600_000_000, 1_600_000_000))
    (root / "link").symlink_to("t" * 150)
    os.link(root / "plain", root / "same")
    os.mkfifo(root / "fifo", 0o640)
    (root / "plain").chmod(0o4755)


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "oldgnu"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    make_tree(tmp_path)
    if form == "ustar":
        (tmp_path / "link").unlink()
    command = ["tar", f"--format={form}", "--sort=name", "-C", str(tmp_path), "-cf", "-", "."]
    data = subprocess.run(command, check=form != "ustar", capture_output=True).stdout
    found = {entry.path.removeprefix("./"): (entry, body) for entry, body in read(data)}
    assert found["plain"][0].mode == 0o4755
    assert found["same"][0].kind == "hardlink"
    assert found["same"][0].target == "./plain"
    assert found["fifo"][0].kind == "fifo"
    for name, body in TREE.items():
        if form != "ustar" or name in found:
            assert found[name][1] == body
            assert found[name][0].mtime == 1_600_000_000
    if form != "ustar":
        assert found["link"][0].target == "t" * 150


def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    content = [plain(name, body, mtime=1_600_000_000) for name, body in TREE.items()]
    content += [
        plain("link", kind="symlink", target="t" * 150),
        plain("same", kind="hardlink", target="plain"),
    ]
    content += [plain(b"latin\xe9".decode("utf-8", "surrogateescape"), b"1"), plain("empty", kind="dir")]
    tar = ["tar", "--warning=no-timestamp", "--warning=no-unknown-keyword", "-C", str(tmp_path), "-xf", "-"]
    done = subprocess.run(
        tar,
        input=archive(*content),
        capture_output=True,
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    for name, body in TREE.items():
        assert (tmp_path / name).read_bytes() == body
        assert (tmp_path / name).stat().st_mtime == 1_600_000_000
    assert os.readlink(tmp_path / "link") == "t" * 150
    assert (tmp_path / "same").stat().st_nlink == 2
    assert (os.fsencode(tmp_path) + b"/latin\xe9") in [
        entry.path for entry in os.scandir(os.fsencode(tmp_path))
    ]
    assert (tmp_path / "empty").is_dir()
