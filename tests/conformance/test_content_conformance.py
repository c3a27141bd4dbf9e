"""What every content store promises: on a disk, and on a bucket of a real S3 server."""

from __future__ import annotations

import hashlib
import importlib
import io
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.base.ids import new_id
from slipway.content import BlobUpload, ContentStore, LocalStore
from slipway.content.bucket import open_bucket
from slipway.errors import Conflict, Exhausted, Invalid, NotFound
from slipway.oci import Digest
from slipway.testing.pushing import no_roots
from slipway.testing.swift import ACCESS_KEY, SECRET_KEY

NO_GRACE = timedelta()
LARGE = 5 << 20
Factory = Callable[[], ContentStore]


@pytest.fixture(params=["disk", "bucket"])
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    """Each call opens the same store as another process would."""
    if request.param == "disk":
        return lambda: LocalStore(tmp_path)
    address = request.getfixturevalue("bucket_server").bucket(f"bucket-{new_id()}")
    return lambda: open_bucket(address, ACCESS_KEY, SECRET_KEY, rest=timedelta(), part=1 << 20)


# Their many requests take a bucket long enough to be left out of the default run.
long_on_a_bucket = pytest.mark.parametrize(
    "factory", ["disk", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def store(factory: Factory) -> ContentStore:
    return factory()


def a_moment() -> None:
    """Servers date to the second."""
    time.sleep(1.1)


def appended(upload: BlobUpload, data: bytes) -> bytes:
    """Whole requests: a store may write only when the upload is closed."""
    try:
        upload.append(data)
    finally:
        upload.close()
    return data


def test_a_blob_is_there_after_commit_only(store: ContentStore) -> None:
    with store.writer() as writer:
        writer.write(b"hello ")
        assert list(store.digests()) == []
        writer.write(b"world")
        digest, size = writer.commit(Digest.of(b"hello world"), 11)
    assert size == 11
    assert store.size(digest) == store.renew(digest) == 11
    assert store.read(digest) == b"hello world"
    assert store.put(b"hello world") == digest
    assert list(store.digests()) == [digest]


def test_a_wrong_digest_or_size_stores_nothing(store: ContentStore) -> None:
    for expected, size in ((Digest.of(b"other"), None), (None, 4)):
        with store.writer() as writer:
            writer.write(b"data!")
            with pytest.raises(Invalid):
                writer.commit(expected, size)
    assert list(store.digests()) == []
    with pytest.raises(NotFound):
        store.open(Digest.of(b"data!"))


def test_other_algorithms_have_their_own_names(store: ContentStore) -> None:
    with store.writer("sha512") as writer:
        writer.write(b"long")
        digest, _ = writer.commit()
    assert str(digest) == f"sha512:{hashlib.sha512(b'long').hexdigest()}"
    assert store.read(digest) == b"long"
    assert store.size(Digest.of(b"long")) is None


def test_what_is_not_here_is_said(store: ContentStore) -> None:
    missing = Digest.of(b"nowhere")
    assert store.size(missing) is store.renew(missing) is None
    assert not store.touch(missing)
    assert not store.delete(missing)
    for look in (store.open, store.read):
        with pytest.raises(NotFound):
            look(missing)


def test_large_blobs_are_not_read_whole(store: ContentStore) -> None:
    digest = store.put(b"x" * 100)
    with pytest.raises(Exhausted):
        store.read(digest, limit=99)
    assert store.read(digest, limit=100) == b"x" * 100


def test_several_at_once(store: ContentStore) -> None:
    datas = [str(number).encode() for number in range(12)]
    assert store.put_all(datas) == [Digest.of(data) for data in datas]
    assert {store.read(digest) for digest in store.digests()} == set(datas)


def test_an_empty_blob(store: ContentStore) -> None:
    digest = store.put(b"")
    assert store.size(digest) == 0
    assert store.read(digest) == b""


@long_on_a_bucket
def test_a_large_blob_is_read_from_anywhere(store: ContentStore) -> None:
    data = random.Random(1).randbytes(LARGE)
    with store.writer() as writer:
        for first in range(0, LARGE, 1 << 20):
            writer.write(data[first : first + (1 << 20)])
        digest, _ = writer.commit(Digest.of(data), LARGE)
    assert store.uploads() == []
    with store.open(digest) as handle:
        for first in (0, 1, (1 << 20) - 3, (4 << 20) - 1, LARGE - 5, LARGE, LARGE + 7):
            handle.seek(first)
            assert handle.read(9) == data[first : first + 9]
        handle.seek(0)
        assert hashlib.sha256(handle.read()).hexdigest() == digest.hex
        assert handle.seek(-4, io.SEEK_END) == LARGE - 4
        assert handle.read() == data[-4:]
    assert list(store.fsck()) == []


def test_a_writer_that_is_left_leaves_nothing(store: ContentStore) -> None:
    with store.writer() as writer:
        writer.write(b"x" * LARGE)
    assert store.uploads() == []
    assert list(store.digests()) == []


@long_on_a_bucket
@pytest.mark.parametrize("seed", range(3))
def test_uploads_are_continued_by_other_processes(factory: Factory, seed: int) -> None:
    rng = random.Random(seed)
    pieces = [rng.randbytes(rng.choice((0, 10, 1 << 20, 3 << 20))) for _ in range(5)]
    upload = factory().upload("abc", create=True)
    for data in pieces:
        if rng.random() < 0.6:
            upload.close()
            upload = factory().upload("abc")
        upload.append(data)
    whole = b"".join(pieces)
    assert upload.offset == len(whole)
    assert upload.commit(Digest.of(whole), len(whole)) == (Digest.of(whole), len(whole))
    upload.close()
    store = factory()
    assert store.read(Digest.of(whole), LARGE * 3) == whole
    assert store.uploads() == []
    with pytest.raises(NotFound):
        store.upload("abc")


def test_a_mismatch_keeps_the_upload(store: ContentStore) -> None:
    upload = store.upload("abc", create=True)
    upload.append(b"part")
    with pytest.raises(Invalid):
        upload.commit(Digest.of(b"whole"))
    upload.close()
    upload = store.upload("abc")
    assert upload.offset == 4
    upload.append(b"!")
    assert upload.commit(Digest.of(b"part!"))[1] == 5


def test_two_writers_at_one_place_are_told(factory: Factory) -> None:
    factory().upload("abc", create=True).close()
    first, second = factory().upload("abc"), factory().upload("abc")
    first.append(b"one")
    first.close()
    with pytest.raises(Conflict):
        appended(second, b"two")
    third = factory().upload("abc")
    assert third.offset == 3
    third.append(b"!")
    third.commit(Digest.of(b"one!"))


@long_on_a_bucket
def test_of_many_writers_at_one_place_no_two_win(factory: Factory) -> None:
    for number in range(5):
        name = f"many{number}"
        factory().upload(name, create=True).close()
        uploads = [factory().upload(name) for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            begun = [pool.submit(appended, one, f"writer {id(one)}".encode()) for one in uploads]
        assert all(isinstance(one.exception(), Conflict | None) for one in begun)
        won = [one.result() for one in begun if one.exception() is None]
        assert len(won) <= 1
        final = factory().upload(name)
        assert final.offset == len(b"".join(won))
        final.commit(Digest.of(b"".join(won)))


def test_a_published_upload_cannot_be_appended_to(factory: Factory) -> None:
    first, second = factory().upload("abc", create=True), factory().upload("abc")
    digest, _ = first.commit(Digest.of(b""))
    with pytest.raises(NotFound):
        appended(second, b"evil")
    assert factory().read(digest) == b""


def test_discarding_leaves_nothing(factory: Factory) -> None:
    upload = factory().upload("abc", create=True)
    upload.append(b"x" * (2 << 20))
    upload.close()
    [(name, age)] = factory().uploads()
    assert (name, age < 30) == ("abc", True)
    factory().upload("abc").discard()
    upload.discard()
    assert factory().uploads() == []
    with pytest.raises(NotFound):
        factory().upload("abc")


@long_on_a_bucket
def test_what_is_published_is_not_discarded(factory: Factory) -> None:
    data = b"x" * (2 << 20)
    upload = factory().upload("abc", create=True)
    upload.append(data)
    upload.close()
    first, second = factory().upload("abc"), factory().upload("abc")
    digest, _ = first.commit(Digest.of(data))
    first.discard()
    second.discard()
    assert factory().read(digest) == data


@long_on_a_bucket
def test_the_same_content_twice_is_no_conflict(factory: Factory) -> None:
    data = b"same" * (1 << 19)
    first, second = factory().upload("one", create=True), factory().upload("two", create=True)
    for upload in (first, second):
        upload.append(data)
    assert first.commit(Digest.of(data)) == second.commit(Digest.of(data))
    store = factory()
    assert list(store.digests()) == [Digest.of(data)]
    assert store.read(Digest.of(data), LARGE) == data


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a" * 65])
def test_upload_ids_cannot_leave_their_place(store: ContentStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.upload(name, create=True)


@long_on_a_bucket
def test_collection_keeps_roots_leases_and_the_young(factory: Factory) -> None:
    store = factory()
    kept, leased, lost = (store.put(data) for data in (b"kept", b"leased", b"lost"))
    with store.lease("test", timedelta(hours=1)) as lease:
        lease.add(leased)
        assert store.collect(lambda *_: [kept]).removed == 0
        a_moment()
        assert factory().collect(lambda *_: [kept], NO_GRACE).removed == 1
        assert set(store.digests()) == {kept, leased}
        assert set(store.leased()) == {leased}
    a_moment()
    assert factory().collect(lambda *_: [kept], NO_GRACE).bytes == len(b"leased")
    assert set(store.digests()) == {kept}
    assert store.put(b"lost") == lost
    assert store.read(lost) == b"lost"


def test_collection_takes_a_page_of_blobs_at_a_time(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roots are asked for page by page, after the leases of that moment, and each for its own range only."""
    for name in ("slipway.content.collect", "slipway.content.bucket.sweep"):
        monkeypatch.setattr(importlib.import_module(name), "PAGE", 4)
    store = factory()
    digests = sorted(store.put(str(number).encode()) for number in range(15))
    kept, leased = set(digests[::3]), digests[7]
    asked: list[tuple[Digest, Digest]] = []

    def roots(first: Digest, last: Digest) -> list[Digest]:
        asked.append((first, last))
        return [digest for digest in kept if first <= digest <= last]

    a_moment()
    with store.lease("test", timedelta(hours=1)) as lease:
        assert lease.hold([leased, Digest.of(b"none")]) == {
            leased: store.size(leased),
            Digest.of(b"none"): None,
        }
        a_moment()
        assert factory().collect(roots, NO_GRACE).removed == len(digests) - len(kept) - 1
    assert set(store.digests()) == {*kept, leased}
    assert len(asked) == 4, asked
    assert [digest for pair in asked for digest in pair] == sorted(
        digest for pair in asked for digest in pair
    )
    assert all(
        any(first <= digest <= last for first, last in asked) for digest in digests if digest != leased
    )


def test_a_lease_that_is_over_protects_nothing(store: ContentStore) -> None:
    digest = store.put(b"x")
    with store.lease("test", timedelta(hours=-1)) as lease:
        store.collect(no_roots)
        with pytest.raises(Conflict):
            lease.add(digest)
        a_moment()
        assert store.collect(no_roots, NO_GRACE).removed == 1


def test_what_happens_between_reading_roots_and_sweeping_is_seen(factory: Factory) -> None:
    """A whole use of old blobs (lease, reference, release) between the roots and the sweep loses none of them."""
    store = factory()
    reused, published, asked = store.put(b"reused"), store.put(b"published"), store.put(b"asked")
    a_moment()

    def roots(*_range: Digest) -> list[Digest]:
        other = factory()
        with other.lease("test", timedelta(hours=1)) as lease:
            lease.add(reused)
            other.put(b"published")
        assert other.renew(asked) == 5
        return []

    assert store.collect(roots, NO_GRACE).removed == 0
    assert set(store.digests()) == {reused, published, asked}


@pytest.mark.parametrize("seconds", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_collection_never_takes_what_is_used(factory: Factory, seconds: int) -> None:
    """Writers lease, publish or reuse, reference and drop old references, while two collectors run all the time."""
    references: list[set[Digest]] = [set() for _ in range(3)]
    lost: list[Digest] = []
    failed: list[BaseException] = []
    removed = [0, 0]
    stop = threading.Event()
    began = time.monotonic()

    def goes_on() -> bool:
        """On a slow machine until something was removed."""
        passed = time.monotonic() - began
        return passed < seconds or (not any(removed) and passed < 120)

    def collector(number: int) -> None:
        store = factory()
        while not stop.is_set():
            found = store.collect(
                lambda *_: [digest for held in references for digest in list(held)], NO_GRACE
            )
            removed[number] += found.removed

    def writer(seed: int) -> None:
        rng, mine, store = random.Random(seed), references[seed], factory()
        while goes_on():
            data = str(rng.randrange(12)).encode()
            digest = Digest.of(data)
            with store.lease(f"writer {seed}", timedelta(minutes=1)) as lease:
                lease.add(digest)
                if rng.random() < 0.3 or store.size(digest) is None:
                    store.put(data)
                time.sleep(rng.random() * 0.05)
                mine.add(digest)
            time.sleep(rng.random() * 0.05)
            for item in mine:
                try:
                    store.read(item)
                except NotFound:
                    lost.append(item)
            if len(mine) > 2:
                mine.pop()

    def guarded(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(writer, seed)) for seed in range(3)]
    sweepers = [threading.Thread(target=guarded, args=(collector, number)) for number in range(2)]
    for thread in (*threads, *sweepers):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    for thread in sweepers:
        thread.join()
    assert failed == []
    assert lost == []
    assert sum(removed) > 0
