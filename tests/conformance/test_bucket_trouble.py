"""A bucket whose server fails: clear errors after a bounded time, and nothing wrong left behind."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from slipway.base.ids import new_id
from slipway.content.bucket import BucketStore, open_bucket, sweep
from slipway.errors import Invalid, NotFound, SlipwayError, Unavailable
from slipway.oci import Digest
from slipway.testing.faults import Fault, Faults, faulty
from slipway.testing.pushing import no_roots
from slipway.testing.swift import ACCESS_KEY, SECRET_KEY, Swift

pytestmark = pytest.mark.slow
NO_GRACE = timedelta()
LARGE = 600 << 10
PART = 256 << 10


@pytest.fixture
def address(bucket_server: Swift) -> str:
    return bucket_server.bucket(f"bucket-{new_id()}")


@pytest.fixture
def store(address: str) -> BucketStore:
    return opened(address)


def opened(address: str) -> BucketStore:
    return open_bucket(address, ACCESS_KEY, SECRET_KEY, rest=timedelta(), part=PART)


@pytest.fixture
def faults(bucket_server: Swift) -> Iterator[Faults]:
    with faulty(bucket_server.endpoint) as found:
        yield found


@pytest.fixture
def shaky(bucket_server: Swift, faults: Faults, address: str) -> BucketStore:
    """The same bucket, seen through the trouble."""
    return opened(address.replace(bucket_server.endpoint, faults.address))


def once_each(fault: Fault) -> Callable[[str, str], Fault]:
    """Every request fails the first time."""
    known: set[tuple[str, str]] = set()

    def decide(method: str, path: str) -> Fault:
        if (method, path) in known:
            return "pass"
        known.add((method, path))
        return fault

    return decide


@pytest.mark.parametrize("fault", ["500", "cut", "half", "deaf"])
def test_a_request_that_fails_once_is_repeated(
    store: BucketStore, shaky: BucketStore, faults: Faults, fault: Fault
) -> None:
    faults.decide = once_each(fault)
    data = random.Random(1).randbytes(LARGE)
    upload = shaky.upload("abc", create=True)
    upload.append(data)
    upload.close()
    assert shaky.upload("abc").commit(Digest.of(data)) == (Digest.of(data), LARGE)
    assert shaky.read(Digest.of(data), LARGE) == data
    small = shaky.put(b"small")
    with shaky.lease("test", timedelta(minutes=1)) as lease:
        lease.add(small)
        assert set(shaky.leased()) == {small}
    assert shaky.uploads() == []
    assert faults.seen > 10
    time.sleep(1.1)
    assert shaky.collect(lambda *_: [small], NO_GRACE).removed == 1
    assert list(store.digests()) == [small]


def test_a_server_that_is_gone_is_unavailable_soon(shaky: BucketStore, faults: Faults) -> None:
    digest = Digest.of(b"x")
    faults.decide = lambda _method, _path: "cut"
    works: tuple[Callable[[], object], ...] = (
        lambda: shaky.size(digest), lambda: shaky.renew(digest), lambda: shaky.open(digest),
        lambda: shaky.put(b"x"), lambda: shaky.upload("a", create=True), lambda: shaky.upload("a"),
        shaky.uploads, lambda: list(shaky.digests()), lambda: shaky.collect(no_roots),
        lambda: shaky.lease("a", timedelta(1)),
    )  # fmt: skip
    for work in works:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            work()
        assert time.monotonic() - began < 60


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["500", "cut", "deaf"])
def test_whatever_request_fails_for_good_an_upload_is_whole_or_goes_on(
    address: str, store: BucketStore, shaky: BucketStore, faults: Faults, fault: Fault
) -> None:
    """The server fails from the n-th request on, for each n, in the middle of an upload; then it is back."""
    rng = random.Random(5)
    for count in range(0, 40, 2):
        data, name = rng.randbytes(LARGE), f"n{count}{fault}"
        store.upload(name, create=True).close()
        passed = iter(range(count))
        faults.decide = lambda _m, _p, passed=passed: "pass" if next(passed, None) is not None else fault  # type: ignore[misc]
        try:
            upload = shaky.upload(name)
            upload.append(data)
            upload.close()
            shaky.upload(name).commit(Digest.of(data))
        except Unavailable:
            failed = True
        else:
            failed = False
        faults.decide = lambda _m, _p: "pass"
        if store.size(Digest.of(data)) is None:
            assert failed
            other = opened(address).upload(name)
            other.append(data[other.offset :])
            other.commit(Digest.of(data))
        assert store.read(Digest.of(data), LARGE) == data
        if not failed:
            break
    else:
        raise AssertionError("it never ended well")
    assert list(store.fsck()) == []


def test_a_failed_append_accepts_nothing_more(shaky: BucketStore, store: BucketStore, faults: Faults) -> None:
    """What comes after lost bytes would leave a hole."""
    upload = shaky.upload("abc", create=True)
    faults.decide = lambda method, path: "500" if "parts" in path and method == "PUT" else "pass"
    with pytest.raises(Unavailable):
        upload.append(b"x" * LARGE)
    faults.decide = lambda _m, _p: "pass"
    with pytest.raises(Unavailable):
        upload.append(b"y")
    upload.close()
    assert store.upload("abc").offset == 0


def test_wrong_keys_are_said(address: str) -> None:
    with pytest.raises(Unavailable, match="refuses us"):
        open_bucket(address, ACCESS_KEY, "wrong").size(Digest.of(b"x"))


def test_a_bucket_that_is_not_there(bucket_server: Swift) -> None:
    store = opened(f"s3://nowhere/x?endpoint={bucket_server.endpoint}&region=us-east-1")
    with pytest.raises(SlipwayError):
        store.put(b"x")


@pytest.mark.parametrize(
    "text", ["", "b", "http://b", "s3://", "s3://b?endpiont=http://x", "s3://b?settle=soon", "s3:///prefix"]
)
def test_addresses_that_mean_nothing(text: str) -> None:
    with pytest.raises(Invalid):
        open_bucket(text)


def test_a_renewal_wins_against_a_sweep_that_was_killed(store: BucketStore, address: str) -> None:
    """Its tomb stays: the next renewal publishes the record anew, and the old sweep may wake up at any time."""
    data = b"x" * LARGE
    with store.writer() as writer:
        writer.write(data)
        digest, _ = writer.commit()
    time.sleep(1.1)
    asleep, awake = threading.Event(), threading.Event()
    objects = store._objects

    def settle() -> None:
        asleep.set()
        awake.wait(60)

    done: list[int] = []

    def old_sweep() -> None:
        done.append(sweep.collect(objects, list, no_roots, 0, 0, settle).removed)

    thread = threading.Thread(target=old_sweep)
    thread.start()
    assert asleep.wait(30)
    other = opened(address)
    assert other.renew(digest) == LARGE
    assert (
        len(list(objects.list(f"blobs/sha256/{digest.hex[:2]}/{digest.hex}"))) == 4
    )  # two records, a mark, a tomb
    awake.set()
    thread.join()
    assert done == [0]
    assert other.read(digest, LARGE) == data
    time.sleep(1.1)
    with other.lease("still", timedelta(hours=1)) as lease:
        lease.add(digest)
        for _ in range(2):
            assert store.collect(no_roots, NO_GRACE).removed == 0
            assert other.read(digest, LARGE) == data
    time.sleep(1.1)
    assert store.collect(no_roots, NO_GRACE).removed == 1
    assert other.size(digest) is None
    time.sleep(1.1)
    store.collect(no_roots, NO_GRACE)
    left = [
        item.key for page in ("blobs", "parts", "dead", "uploads", "leases") for item in objects.list(page)
    ]
    assert left == []


def test_readers_end_before_the_bytes_go(address: str) -> None:
    store = open_bucket(address, ACCESS_KEY, SECRET_KEY, rest=timedelta(minutes=5), part=PART)
    data = random.Random(7).randbytes(LARGE)
    with store.writer() as writer:
        writer.write(data)
        digest, _ = writer.commit()
    time.sleep(1.1)
    with store.open(digest) as handle:
        head = handle.read(100)
        assert store.collect(no_roots, NO_GRACE).removed == 1
        assert store.collect(no_roots, NO_GRACE).removed == 0
        with pytest.raises(NotFound):
            store.open(digest)
        assert head + handle.read() == data
    with store.writer() as writer:  # it comes again, and has nothing to do with what is on its way out
        writer.write(data)
        writer.commit()
    time.sleep(1.1)
    before = len(store._objects.list("parts"))
    opened(address).collect(lambda *_: [digest], NO_GRACE)  # the time of rest is over
    assert len(store._objects.list("parts")) < before
    assert store.read(digest, LARGE) == data


def test_what_a_killed_writer_leaves_is_an_upload(store: BucketStore) -> None:
    writer = store.writer()
    writer.write(b"x" * LARGE)
    [(name, _)] = store.uploads()
    store.upload(name).discard()
    with pytest.raises(NotFound):
        writer.write(b"x" * LARGE)
    with pytest.raises(Unavailable, match="not whole"):
        writer.commit()
    writer.abort()
    assert store._objects.list("parts") == []
    assert store.uploads() == []
    assert list(store.digests()) == []


def test_an_upload_that_is_discarded_while_it_is_written_leaves_nothing(
    address: str, store: BucketStore
) -> None:
    for number in range(6):
        upload = opened(address).upload(f"u{number}", create=True)
        upload.append(b"x" * PART)
        other = opened(address).upload(upload.id)
        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(upload.append, b"y" * PART * 3)
            time.sleep(number * 0.02)
            pool.submit(other.discard).result()
        assert isinstance(writing.exception(), NotFound | None)
        with pytest.raises(NotFound):
            upload.append(b"z" * PART)
        with pytest.raises(NotFound):
            opened(address).upload(upload.id)
    assert [item.key for place in ("parts", "uploads") for item in store._objects.list(place)] == []


def test_commit_or_discard_never_both(address: str, store: BucketStore) -> None:
    for number in range(12):
        data = random.Random(number).randbytes(LARGE)
        first = opened(address).upload(f"u{number}", create=True)
        first.append(data)
        first.close()
        one, two = (opened(address).upload(first.id) for _ in range(2))
        with ThreadPoolExecutor(2) as pool:
            committing = pool.submit(one.commit, Digest.of(data))
            time.sleep(number * 0.01)
            discarding = pool.submit(two.discard)
        assert discarding.exception() is None
        if committing.exception() is None:
            assert store.read(Digest.of(data), LARGE) == data
        else:
            assert isinstance(committing.exception(), NotFound)
            assert store.size(Digest.of(data)) is None
    assert list(store.fsck()) == []


def test_what_a_killed_process_left_half_ended_is_ended(store: BucketStore) -> None:
    """Killed after it had decided to discard, and before the parts were gone; or after all but its last mark."""
    objects = store._objects
    upload = store.upload("gone", create=True)
    upload.append(b"x" * LARGE)
    upload.close()
    objects.put("uploads/gone/gone", b"")
    objects.delete(["uploads/gone/open"])
    data = b"y" * LARGE
    upload = store.upload("late", create=True)
    upload.append(data)
    upload.commit(Digest.of(data))
    objects.put("uploads/late/discard", b"")
    assert store.uploads() == []
    assert objects.list("uploads") == []
    assert store.read(Digest.of(data), LARGE) == data
    assert {item.key.split("/")[1] for item in objects.list("parts")} == {"late"}
