"""What only the store on a disk has: files, locks, write-back. The conformance suite has what every store promises."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.errors import Conflict, Exhausted
from slipway.oci import Digest
from slipway.testing.pushing import no_roots

NO_GRACE = timedelta()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_the_disk_begins_before_a_blob_is_complete(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []

    def refuse(fd: int, offset: int, size: int) -> None:
        begun.append((offset, size))
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr("slipway.content.writer.linux.start_writeback", refuse)
    piece, count = b"x" * (3 << 20), 9
    with store.writer() as writer:
        for _ in range(count):
            writer.write(piece)
        digest, size = writer.commit(Digest.of(piece * count))
    assert begun == [(0, 9 << 20), (9 << 20, 9 << 20), (18 << 20, 9 << 20)]
    assert (size, store.path(digest).stat().st_size) == (27 << 20, 27 << 20)


def test_an_upload_in_two_requests_is_hashed_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = store.upload("abc", create=True)
    first.append(b"one ")
    first.close()
    second = store.upload("abc")
    second.append(b"two")

    def pread(fd: int, size: int, offset: int) -> bytes:
        raise AssertionError("it is read again")

    monkeypatch.setattr(os, "pread", pread)
    assert second.commit(Digest.of(b"one two"))[1] == 7


def test_after_a_restart_an_upload_is_read_once_more(tmp_path: Path) -> None:
    first = LocalStore(tmp_path).upload("abc", create=True)
    first.append(b"one ")
    first.close()
    second = LocalStore(tmp_path).upload("abc")
    second.append(b"two")
    assert second.commit(Digest.of(b"one two"))[1] == 7


def test_an_upload_has_one_writer_at_a_time(store: LocalStore) -> None:
    first, second = store.upload("abc", create=True), store.upload("abc")
    first.append(b"one")
    with pytest.raises(Conflict, match="written to"):
        second.append(b"two")
    assert store.upload("abc").offset == 3
    first.close()
    with pytest.raises(Conflict, match="moved on"):
        second.append(b"two")


def test_a_full_disk_leaves_what_was_there(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = store.upload("abc", create=True)
    upload.append(b"first ")
    real = os.write

    def full(fd: int, data: memoryview) -> int:
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Exhausted):
            upload.append(b"second")
    upload.append(b"second")
    assert upload.commit(Digest.of(b"first second"))[1] == 12


def made_old(store: LocalStore, *digests: Digest) -> None:
    for digest in digests:
        os.utime(store.path(digest), (1, 1))


def test_a_lease_that_was_swept_away_says_so(store: LocalStore) -> None:
    lease = store.lease("test", timedelta(seconds=-5))
    store.collect(no_roots)
    with pytest.raises(Conflict):
        lease.add(Digest.of(b"x"))


COLLECTOR = """
import importlib, sys, tracemalloc
from datetime import timedelta
from pathlib import Path
from slipway.content import LocalStore
importlib.import_module("slipway.content.collect").PAGE = 500
asked = []
def roots(first, last):
    asked.append(first)
    return [first, last]
store = LocalStore(Path(sys.argv[1]))
tracemalloc.start()
found = store.collect(roots, timedelta())
print(tracemalloc.get_traced_memory()[1], len(asked), asked == sorted(asked), found.removed)
"""


def test_a_large_store_is_collected_in_little_memory(store: LocalStore, tmp_path: Path) -> None:
    """20,000 blobs; all of them at once would be some 8 MiB. In a process whose memory is all its own."""
    for number in range(20_000):
        path = store.path(Digest.of(str(number).encode()))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1, 1))
    done = subprocess.run([sys.executable, "-c", COLLECTOR, tmp_path], stdout=subprocess.PIPE, check=True)
    peak, *others = done.stdout.split()
    assert others == [b"40", b"True", str(20_000 - 80).encode()]
    assert int(peak) < 2 << 20, peak


def test_nobody_waits_while_large_blobs_are_removed(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To free a gigabyte takes a file system long, and all who push need the lock."""
    removed = [store.put(bytes([number])) for number in range(3)]
    usual = Path.unlink
    freed = 0

    def unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal freed
        blobs = os.open(tmp_path / "blobs", os.O_RDONLY)
        fcntl.flock(blobs, fcntl.LOCK_SH | fcntl.LOCK_NB)  # raises if somebody has it alone
        os.close(blobs)
        freed += 1
        usual(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    assert store.delete_older(removed, float("inf")) == removed
    assert freed == 3
    assert list((tmp_path / "ingest").iterdir()) == []
    assert list(store.digests()) == []


def test_half_written_leases_do_not_stop_collection(store: LocalStore, tmp_path: Path) -> None:
    digest, other = store.put(b"x"), store.put(b"y")
    made_old(store, digest, other)
    (tmp_path / "leases" / "empty").write_text("")
    (tmp_path / "leases" / "head").write_text("17")
    (tmp_path / "leases" / "half").write_text(f"{time.time() + 60:.0f} somebody\n{digest}\nsha512:{'a' * 99}")
    assert store.collect(no_roots).removed == 1
    assert list(store.digests()) == [digest]


def test_stray_files_are_no_blobs(store: LocalStore, tmp_path: Path) -> None:
    digest = store.put(b"x")
    (tmp_path / "blobs/sha256/README").write_text("?")
    (store.path(digest).parent / "lost+found").write_text("?")
    assert list(store.digests()) == [digest]


WRITER = """
import os, sys
from pathlib import Path
from slipway.content import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    with store.writer() as writer:
        for _ in range(8):
            writer.write(os.urandom(65536))
        writer.commit()
"""


def test_killed_writers_leave_no_half_blob(store: LocalStore, tmp_path: Path) -> None:
    rng = random.Random(7)
    for _ in range(12):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert list(store.fsck()) == []
    store.recover()
    assert list((tmp_path / "ingest").iterdir()) == []


def test_fsck_finds_damage(store: LocalStore) -> None:
    digest = store.put(b"good")
    store.path(digest).chmod(0o600)
    store.path(digest).write_bytes(b"evil")
    assert list(store.fsck()) == [digest]
