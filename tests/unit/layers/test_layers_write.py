"""Layers written: the same entries give the same bytes, memory stays flat, nothing half-written is stored."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import zstandard

from slipway.content import LocalStore
from slipway.errors import Invalid
from slipway.layers import Compression, Entry, Layer, import_tar, write_layer
from slipway.layers.compression import decompressed
from slipway.layers.write import tar_blocks
from slipway.oci import Digest, MediaType

KINDS: tuple[Compression, ...] = get_args(Compression)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def content(body: bytes) -> Callable[[], int]:
    def opened() -> int:
        fd = os.memfd_create("body")
        os.write(fd, body)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    return opened


def file(path: str, body: bytes, mtime: float = 1_700_000_000) -> Entry:
    return Entry(path, "file", 0o644, mtime=mtime, size=len(body), open=content(body))


def sample() -> list[Entry]:
    return [
        Entry("bin", "dir", 0o755, mtime=1_700_000_000.9),
        file("bin/tool", b"\x7fELF" * 1000),
        Entry("bin/alias", "symlink", 0o777, target="tool"),
        Entry("bin/same", "hardlink", 0o644, target="bin/tool"),
        Entry("ü", "fifo", 0o600, 2**22, 7, xattrs={"user.b": b"2", "user.a": b"1"}),
    ]


def unpacked(store: LocalStore, layer: Layer) -> bytes:
    with store.open(layer.descriptor.digest) as stream:
        plain = decompressed(stream, MediaType.compression(layer.descriptor.media_type))
        return b"".join(iter(lambda: plain.read(1 << 20), b""))


@pytest.mark.parametrize("compression", KINDS)
def test_a_layer_is_what_it_says(store: LocalStore, compression: Compression) -> None:
    layer = write_layer(store, sample(), compression=compression)
    data = unpacked(store, layer)
    assert (Digest.of(data), len(data)) == (layer.diff_id, layer.uncompressed)
    assert store.size(layer.descriptor.digest) == layer.descriptor.size
    assert list(store.fsck()) == []
    with tarfile.open(fileobj=io.BytesIO(data)) as other:
        assert other.getnames() == ["bin", "bin/tool", "bin/alias", "bin/same", "ü"]
        assert all((member.uname, member.gname) == ("", "") for member in other)


@pytest.mark.parametrize("compression", KINDS)
def test_the_same_entries_give_the_same_bytes(store: LocalStore, compression: Compression) -> None:
    first, second = (write_layer(store, iter(sample()), compression=compression) for _ in range(2))
    assert first == second


def test_the_tar_of_a_layer_never_changes(store: LocalStore) -> None:
    """Its digest is in caches and images that exist: changing this line changes every image's layers."""
    layer = write_layer(store, sample(), compression="none")
    assert str(layer.diff_id) == "sha256:9a65ef67022496dd18d17cc40c5ffc8b5e1c95d0606370a1224ffe1841287cb9"


def test_an_epoch_makes_times_irrelevant(store: LocalStore) -> None:
    first = write_layer(store, [file("a", b"x", mtime=2000)], epoch=1000)
    assert first == write_layer(store, [file("a", b"x", mtime=3000)], epoch=1000)
    assert first != write_layer(store, [file("a", b"x", mtime=999)], epoch=1000)


def test_the_root_directory_is_no_entry(store: LocalStore) -> None:
    with_root = write_layer(store, [Entry("", "dir", 0o700), *sample()])
    assert with_root == write_layer(store, sample())


@pytest.mark.parametrize("size", [4, 6])
def test_a_file_that_changes_meanwhile_stores_nothing(store: LocalStore, size: int) -> None:
    growing = Entry("a", "file", 0o644, size=size, chunks=lambda: iter([b"12345"]))
    with pytest.raises(Invalid, match="changed"):
        write_layer(store, [growing])
    assert list(store.digests()) == []
    assert threading.active_count() == 1


def test_a_file_that_goes_meanwhile_stores_nothing(store: LocalStore) -> None:
    gone = Entry("a", "file", 0o644, size=5, open=lambda: os.open("/nonexistent", os.O_RDONLY))
    with pytest.raises(Invalid, match="changed"):
        write_layer(store, [gone])
    assert list(store.digests()) == []


def test_an_error_while_storing_ends_everything(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, data: bytes) -> int:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr("slipway.content.BlobWriter.write", broken)
    body = os.urandom(1 << 20)
    endless = (
        Entry(str(number), "file", 0o644, size=len(body), chunks=lambda: iter([body]))
        for number in itertools.count()
    )
    with pytest.raises(OSError, match="broken"):
        write_layer(store, endless)
    assert threading.active_count() == 1


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "gzip, two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "zstd, many frames": lambda data: b"".join(
        zstandard.ZstdCompressor(write_checksum=True).compress(data[at : at + 300])
        for at in range(0, len(data), 300)
    ),
    "xz": lzma.compress,
    "xz, two streams": lambda data: lzma.compress(data[:700]) + lzma.compress(data[700:]),
    "bzip2": bz2.compress,
}


def outside() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (
            ("./", tarfile.DIRTYPE),
            ("./dev", tarfile.DIRTYPE),
            ("./dev/null", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            archive.addfile(member)
        member = tarfile.TarInfo("/etc/name")
        member.size = 5000
        archive.addfile(member, io.BytesIO(b"n" * 5000))
    return buffer.getvalue()


@pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS.keys())
def test_archives_from_outside_become_layers(store: LocalStore, packer: Callable[[bytes], bytes]) -> None:
    layer = import_tar(store, io.BytesIO(packer(outside())))
    with tarfile.open(fileobj=io.BytesIO(unpacked(store, layer))) as other:
        assert other.getnames() == ["dev", "etc/name"]
    assert threading.active_count() == 1


@pytest.mark.parametrize("packer", [*PACKERS.values()][1:], ids=[*PACKERS.keys()][1:])
@pytest.mark.parametrize("damage", ["cut", "cut by a byte", "flipped"])
def test_damaged_archives_store_nothing(
    store: LocalStore, packer: Callable[[bytes], bytes], damage: str
) -> None:
    data = bytearray(packer(outside()))
    if damage == "flipped":
        data[len(data) // 2] ^= 0x55
    else:
        del data[len(data) // 2 if damage == "cut" else -1 :]
    with pytest.raises(Invalid):
        import_tar(store, io.BytesIO(bytes(data)))
    assert list(store.digests()) == []
    assert threading.active_count() == 1


def test_garbage_behind_the_end_is_read_and_judged(store: LocalStore) -> None:
    with pytest.raises(Invalid):
        import_tar(store, io.BytesIO(gzip.compress(outside()) + b"garbage"))


def test_names_that_lead_outside_are_refused(store: LocalStore) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a/../../b"))
    with pytest.raises(Invalid, match=r"\.\."):
        import_tar(store, io.BytesIO(buffer.getvalue()))


MEASURE = """
import os, resource, sys
from pathlib import Path
from slipway.content import LocalStore
from slipway.layers import Entry, write_layer
block = os.urandom(1 << 20)
entry = Entry("big", "file", 0o644, size=400 << 20, chunks=lambda: (block for _ in range(400)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for kind in ("gzip", "zstd"):
    write_layer(LocalStore(Path(sys.argv[1])), [entry], compression=kind)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_flat_whatever_the_size(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60 * 1024


def test_a_file_that_is_written_while_it_is_read_is_in_no_layer(tmp_path: Path) -> None:
    """Half of it would be of before and half of after, under the key of one of them."""
    path = tmp_path / "database"
    path.write_bytes(bytes(3 << 20))
    os.utime(path, (1, 1))
    entry = Entry("database", "file", 0o644, size=3 << 20, open=lambda: os.open(path, os.O_RDONLY))
    blocks = tar_blocks([entry])
    next(blocks)
    with path.open("r+b") as handle:
        handle.write(b"new")
    with pytest.raises(Invalid, match="changed while it was read"):
        for _ in blocks:
            pass
