"""Blobs appear whole or not at all, and stay as long as somebody needs them."""

from __future__ import annotations

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
from slipway.errors import Exhausted, Invalid, NotFound
from slipway.oci import Digest

NO_GRACE = timedelta(seconds=-1)


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


def test_a_mismatch_keeps_the_upload(store: LocalStore) -> None:
    upload = store.upload("abc", create=True)
    upload.append(b"part")
    with pytest.raises(Invalid):
        upload.commit(Digest.of(b"whole"))
    upload.append(b"!")
    assert upload.commit(Digest.of(b"part!"))[1] == 5


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a" * 65])
def test_upload_ids_cannot_leave_their_directory(store: LocalStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.upload(name, create=True)


def test_collection_keeps_roots_leases_and_the_young(store: LocalStore) -> None:
    kept, leased, lost = (store.put(data) for data in (b"kept", b"leased", b"lost"))
    with store.lease("test", timedelta(hours=1)) as lease:
        lease.add(leased)
        assert store.collect(lambda: [kept]).removed == 0
        assert store.collect(lambda: [kept], NO_GRACE).removed == 1
        assert set(store.digests()) == {kept, leased}
    assert store.collect(lambda: [kept], NO_GRACE).bytes == len(b"leased")
    assert lost not in set(store.digests())


def test_a_lease_that_is_over_protects_nothing(store: LocalStore) -> None:
    digest = store.put(b"x")
    lease = store.lease("test", timedelta(seconds=-5))
    lease.add(digest)
    assert store.collect(list, NO_GRACE).removed == 1


def test_collection_never_takes_what_a_writer_leased(store: LocalStore) -> None:
    """Writers publish under a lease, check, then reference; a collector runs all the time."""
    roots: set[Digest] = set()
    lost: list[Digest] = []
    stop = threading.Event()

    def collector() -> None:
        while not stop.is_set():
            store.collect(lambda: list(roots), NO_GRACE)

    def writer(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            data = str(rng.randrange(40)).encode()
            with store.lease(f"writer {seed}", timedelta(minutes=1)) as lease:
                lease.add(Digest.of(data))
                digest = store.put(data)
                time.sleep(0.0005)
                if store.size(digest) is None:
                    lost.append(digest)
                roots.add(digest)

    threads = [threading.Thread(target=writer, args=(seed,)) for seed in range(4)]
    sweeper = threading.Thread(target=collector)
    for thread in (*threads, sweeper):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    sweeper.join()
    assert lost == []
    assert all(store.size(digest) is not None for digest in roots)


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
    for _ in range(6):
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
