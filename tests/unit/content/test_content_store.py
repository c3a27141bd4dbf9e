"""Blobs appear whole or not at all, and stay as long as somebody needs them."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.content import LocalStore
from slipway.errors import Conflict, Exhausted, Invalid, NotFound
from slipway.oci import Digest

NO_GRACE = timedelta()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_a_blob_is_there_after_commit_only(store: LocalStore) -> None:
    with store.writer() as writer:
        writer.write(b"hello ")
        assert list(store.digests()) == []
        writer.write(b"world")
        digest, size = writer.commit(Digest.of(b"hello world"), 11)
    assert size == 11
    assert store.read(digest) == b"hello world"
    assert store.put(b"hello world") == digest
    assert list(store.digests()) == [digest]


def test_a_wrong_digest_or_size_stores_nothing(store: LocalStore) -> None:
    for expected, size in ((Digest.of(b"other"), None), (None, 4)):
        with store.writer() as writer:
            writer.write(b"data!")
            with pytest.raises(Invalid):
                writer.commit(expected, size)
    assert list(store.digests()) == []
    with pytest.raises(NotFound):
        store.open(Digest.of(b"data!"))


def test_large_blobs_are_not_read_whole(store: LocalStore) -> None:
    digest = store.put(b"x" * 100)
    with pytest.raises(Exhausted):
        store.read(digest, limit=99)


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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=50), st.booleans()), max_size=6))
def test_uploads_survive_being_reopened(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bytes, bool]]
) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    upload = store.upload("abc", create=True)
    for data, reopen in pieces:
        if reopen:
            upload.close()
            upload = store.upload("abc")
        upload.append(data)
    whole = b"".join(data for data, _ in pieces)
    assert upload.offset == len(whole)
    digest, _ = upload.commit(Digest.of(whole))
    assert store.read(digest) == whole
    assert store.uploads() == []


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


def test_a_mismatch_keeps_the_upload(store: LocalStore) -> None:
    upload = store.upload("abc", create=True)
    upload.append(b"part")
    with pytest.raises(Invalid):
        upload.commit(Digest.of(b"whole"))
    upload.append(b"!")
    assert upload.commit(Digest.of(b"part!"))[1] == 5


def test_an_upload_has_one_writer_at_a_time(store: LocalStore) -> None:
    first, second = store.upload("abc", create=True), store.upload("abc")
    first.append(b"one")
    with pytest.raises(Conflict, match="written to"):
        second.append(b"two")
    assert store.upload("abc").offset == 3
    first.close()
    with pytest.raises(Conflict, match="moved on"):
        second.append(b"two")


def test_a_published_upload_cannot_be_appended_to(store: LocalStore) -> None:
    first, second = store.upload("abc", create=True), store.upload("abc")
    digest, _ = first.commit(Digest.of(b""))
    with pytest.raises(NotFound):
        second.append(b"evil")
    assert store.read(digest) == b""


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


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a" * 65])
def test_upload_ids_cannot_leave_their_directory(store: LocalStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.upload(name, create=True)


def made_old(store: LocalStore, *digests: Digest) -> None:
    for digest in digests:
        os.utime(store.path(digest), (1, 1))


def test_collection_keeps_roots_leases_and_the_young(store: LocalStore) -> None:
    kept, leased, lost = (store.put(data) for data in (b"kept", b"leased", b"lost"))
    with store.lease("test", timedelta(hours=1)) as lease:
        lease.add(leased)
        assert store.collect(lambda: [kept]).removed == 0
        made_old(store, kept, leased, lost)
        assert store.collect(lambda: [kept]).removed == 1
        assert set(store.digests()) == {kept, leased}
    assert store.collect(lambda: [kept], NO_GRACE).bytes == len(b"leased")
    assert lost not in set(store.digests())


def test_a_lease_that_is_over_protects_nothing(store: LocalStore) -> None:
    digest = store.put(b"x")
    lease = store.lease("test", timedelta(seconds=-5))
    lease.add(digest)
    assert store.collect(list, NO_GRACE).removed == 1


def test_what_happens_between_reading_roots_and_sweeping_is_seen(store: LocalStore) -> None:
    """A whole use of old blobs (lease, reference, release) between the roots and the sweep loses none of them."""
    reused, published = store.put(b"reused"), store.put(b"published")
    made_old(store, reused, published)

    def roots() -> list[Digest]:
        with store.lease("test", timedelta(hours=1)) as lease:
            lease.add(reused)
            store.put(b"published")
        return []

    assert store.collect(roots, NO_GRACE).removed == 0
    assert set(store.digests()) == {reused, published}


def test_a_lease_that_was_swept_away_says_so(store: LocalStore) -> None:
    lease = store.lease("test", timedelta(seconds=-5))
    store.collect(list)
    with pytest.raises(Conflict):
        lease.add(Digest.of(b"x"))


def test_half_written_leases_do_not_stop_collection(store: LocalStore, tmp_path: Path) -> None:
    digest, other = store.put(b"x"), store.put(b"y")
    made_old(store, digest, other)
    (tmp_path / "leases" / "empty").write_text("")
    (tmp_path / "leases" / "head").write_text("17")
    (tmp_path / "leases" / "half").write_text(f"{time.time() + 60:.0f} somebody\n{digest}\nsha512:{'a' * 99}")
    assert store.collect(list).removed == 1
    assert list(store.digests()) == [digest]


def test_stray_files_are_no_blobs(store: LocalStore, tmp_path: Path) -> None:
    digest = store.put(b"x")
    (tmp_path / "blobs/sha256/README").write_text("?")
    (store.path(digest).parent / "lost+found").write_text("?")
    assert list(store.digests()) == [digest]


def test_collection_never_takes_what_is_used(store: LocalStore) -> None:
    """Writers lease, publish or reuse, reference and drop old references, while a collector runs all the time."""
    references: list[set[Digest]] = [set() for _ in range(4)]
    lost: list[Digest] = []
    removed = 0
    stop = threading.Event()

    def collector() -> None:
        nonlocal removed
        while not stop.is_set():
            removed += store.collect(
                lambda: [digest for held in references for digest in list(held)], NO_GRACE
            ).removed

    def writer(seed: int) -> None:
        rng, mine = random.Random(seed), references[seed]
        for _ in range(80):
            data = str(rng.randrange(30)).encode()
            digest = Digest.of(data)
            with store.lease(f"writer {seed}", timedelta(minutes=1)) as lease:
                lease.add(digest)
                if rng.random() < 0.5 or store.size(digest) is None:
                    store.put(data)
                time.sleep(rng.random() * 0.002)
                mine.add(digest)
            time.sleep(rng.random() * 0.002)
            lost.extend(item for item in mine if store.size(item) is None)
            if len(mine) > 2:
                mine.pop()

    threads = [threading.Thread(target=writer, args=(seed,)) for seed in range(4)]
    sweeper = threading.Thread(target=collector)
    for thread in (*threads, sweeper):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    sweeper.join()
    assert lost == []
    assert removed > 0


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
