"""Chains: unpacked once, whatever happens meanwhile. Layers here need no root."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

import slipway.snapshots.chains
import slipway.snapshots.store
from slipway.content import LocalStore
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry, apply_layer, write_layer
from slipway.oci import Descriptor, Digest, MediaType, chain_id
from slipway.snapshots import Active, LayerRef, SnapshotStore

_NOW = timedelta(0)


def _file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    def opened() -> int:
        fd = os.memfd_create("file")
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    return Entry(path, "file", mode, os.geteuid(), os.getegid(), size=len(data), open=opened)


def _dir(path: str, mode: int = 0o755) -> Entry:
    return Entry(path, "dir", mode, os.geteuid(), os.getegid())


@pytest.fixture
def blobs(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "content")


@pytest.fixture
def store(tmp_path: Path, blobs: LocalStore) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots", blobs)


@pytest.fixture
def layer(blobs: LocalStore) -> Callable[..., LayerRef]:
    def make(*entries: Entry) -> LayerRef:
        written = write_layer(blobs, entries)
        return LayerRef(written.diff_id, written.descriptor)

    return make


@pytest.fixture
def image(layer: Callable[..., LayerRef]) -> list[LayerRef]:
    return [
        layer(_dir("etc", 0o711), _file("etc/a", b"old"), _file("etc/b", b"b")),
        layer(_file("etc/a", b"new"), _file(".wh.gone", b"")),
        layer(_file("etc/.wh.b", b"")),
    ]


def _files(store: SnapshotStore, chain: Digest | None) -> list[str]:
    with store.view(chain) as view:
        return [entry.path for entry in view.walk("")]


def _leftovers(store: SnapshotStore) -> list[str]:
    return [f"{part}/{name}" for part in ("tmp", "locks", "active") for name in os.listdir(store.root / part)]


def test_a_stack_is_unpacked_bottom_first(store: SnapshotStore, image: list[LayerRef]) -> None:
    chain = store.ensure(image)
    assert chain == chain_id([item.diff_id for item in image])
    assert _files(store, chain) == ["etc", "etc/a"]
    assert len(store.lowers(chain)) == len(list(store.chains())) == 3
    assert store.lowers(chain)[0] == store.root / "layers" / str(chain).removeprefix("sha256:") / "fs"
    assert _files(store, store.ensure(image[:1])) == ["etc", "etc/a", "etc/b"]
    assert _leftovers(store) == []


def test_no_layers_are_no_chain(store: SnapshotStore) -> None:
    assert store.ensure([]) is None
    assert store.lowers(None) == []
    assert _files(store, None) == []


def test_implied_parents_look_as_in_the_layers_below(store: SnapshotStore, image: list[LayerRef]) -> None:
    chain = store.ensure(image[:2])
    assert store.lowers(chain)[0].joinpath("etc").stat().st_mode & 0o777 == 0o711
    assert store.lowers(chain)[0].stat().st_mode & 0o777 == 0o755


def test_what_is_there_is_not_unpacked_again(
    store: SnapshotStore, image: list[LayerRef], blobs: LocalStore
) -> None:
    chain = store.ensure(image)
    for item in image:
        blobs.delete(item.blob.digest)
    assert store.ensure(image) == chain


def test_a_missing_blob_and_a_missing_chain_are_named(store: SnapshotStore, image: list[LayerRef]) -> None:
    lost = LayerRef(Digest.of(b"x"), Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(b"y"), 1))
    with pytest.raises(NotFound, match=str(Digest.of(b"y"))):
        store.ensure([*image, lost])
    with pytest.raises(NotFound, match="is not unpacked"):
        store.lowers(Digest.of(b"z"))
    assert len(list(store.chains())) == 3
    assert _leftovers(store) == []


def test_a_layer_that_is_not_what_it_says_is_refused(store: SnapshotStore, image: list[LayerRef]) -> None:
    wrong = LayerRef(Digest.of(b"other"), image[0].blob)
    with pytest.raises(Invalid, match=f"not {wrong.diff_id}"):
        store.ensure([wrong])
    assert list(store.chains()) == []
    assert _leftovers(store) == []


def test_concurrent_unpackers_of_a_chain_join(
    store: SnapshotStore, image: list[LayerRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: object, **options: object) -> object:
        calls.append(1)
        time.sleep(0.02)  # long enough for the others to arrive
        return apply_layer(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(slipway.snapshots.store, "apply_layer", counted)
    results: list[Digest | None] = []
    threads = [threading.Thread(target=lambda: results.append(store.ensure(image))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert len(results) == 8
    assert len(calls) == 3
    assert _leftovers(store) == []


# Kills


def _killed_in(work: Callable[[], object]) -> None:
    """Carry out ``work`` in a process that it kills."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def _die(*_arguments: object, **_options: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize(
    ("module", "name"),
    [("store", "apply_layer"), ("chains", "write_json"), ("chains", "_boot")],
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_unpacking_leaves_nothing_half_done(
    store: SnapshotStore, image: list[LayerRef], monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(getattr(slipway.snapshots, module), name, _die)
        _killed_in(lambda: store.ensure(image))
    store.recover()
    assert _leftovers(store) == []
    assert _files(store, store.ensure(image)) == ["etc", "etc/a"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_removing_leaves_nothing(
    store: SnapshotStore, image: list[LayerRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = store.ensure(image)
    assert chain is not None
    with monkeypatch.context() as patch:
        patch.setattr(slipway.snapshots.chains, "remove_tree", _die)
        _killed_in(lambda: store.remove(chain))
    assert not store.has(chain)
    store.recover()
    assert _leftovers(store) == []


def test_what_the_machine_may_have_lost_is_made_again(
    store: SnapshotStore, image: list[LayerRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    bottom = store.ensure(image[:1])
    store.settle()
    chain = store.ensure(image)
    store.recover()
    assert len(list(store.chains())) == 3, "the server alone was restarted"
    monkeypatch.setattr(slipway.snapshots.chains, "_boot", lambda: "another boot")
    store.recover()
    assert list(store.chains()) == [bottom]
    assert os.listdir(store.root / "unsettled") == []
    assert store.ensure(image) == chain


# Builds


def _write(active: Active, path: str, text: str) -> None:
    (active.upper / path).parent.mkdir(parents=True, exist_ok=True)
    (active.upper / path).write_text(text)


def test_a_committed_upper_directory_is_the_snapshot(store: SnapshotStore, image: list[LayerRef]) -> None:
    base = store.ensure(image)
    active = store.prepare(base)
    _write(active, "made/here", "x")
    inode = (active.upper / "made/here").stat().st_ino
    committed = store.commit(active)
    assert committed.layer is not None
    assert committed.chain == chain_id([*(item.diff_id for item in image), committed.layer.diff_id])
    assert store.lowers(committed.chain)[0].joinpath("made/here").stat().st_ino == inode
    assert store.lowers(committed.chain)[1:] == store.lowers(base)
    assert _files(store, committed.chain) == ["etc", "etc/a", "made", "made/here"]
    assert _leftovers(store) == []
    store.discard(active)
    assert store.has(committed.chain) if committed.chain else False


def test_a_run_that_changes_nothing_makes_no_layer(store: SnapshotStore, image: list[LayerRef]) -> None:
    base = store.ensure(image)
    committed = store.commit(store.prepare(base))
    assert (committed.chain, committed.layer) == (base, None)
    assert _leftovers(store) == []


def test_the_top_directory_itself_is_no_change(store: SnapshotStore) -> None:
    active = store.prepare(None)
    _write(active, "file", "x")
    active.upper.chmod(0o700)
    committed = store.commit(active)
    assert store.lowers(committed.chain)[0].stat().st_mode & 0o777 == 0o755


def test_the_same_result_twice_is_one_snapshot(store: SnapshotStore) -> None:
    chains = []
    for _ in range(2):
        active = store.prepare(None)
        _write(active, "file", "x")
        for path in ("file", "."):
            os.utime(active.upper / path, (1, 1))
        chains.append(store.commit(active).chain)
    assert chains[0] == chains[1]
    assert list(store.chains()) == chains[:1]
    assert _leftovers(store) == []


def test_with_an_epoch_the_snapshot_has_the_layers_times(store: SnapshotStore) -> None:
    active = store.prepare(None)
    _write(active, "file", "x")
    committed = store.commit(active, epoch=1_000_000)
    assert store.lowers(committed.chain)[0].joinpath("file").stat().st_mtime == 1_000_000
    assert _leftovers(store) == []


def test_what_is_thrown_away_during_a_commit_is_no_snapshot(store: SnapshotStore) -> None:
    """A cancelled step is discarded while its commit goes on in a thread: that must not publish half a tree."""
    names = [str(number) for number in range(200)]
    for _ in range(20):
        active = store.prepare(None)
        for name in names:
            (active.upper / name).touch()
        reached = threading.Event()

        def commit(active: Active = active, reached: threading.Event = reached) -> None:
            def through(entries: Iterator[Entry]) -> Iterator[Entry]:
                yield from entries
                reached.set()

            with contextlib.suppress(OSError):  # what it reads goes away under it
                store.commit(active, through=through)

        thread = threading.Thread(target=commit)
        thread.start()
        reached.wait()
        store.discard(active)
        thread.join()
        for chain in store.chains():
            assert sorted(entry.path for entry in store.view(chain).iterdir("")) == sorted(names)
            store.remove(chain)
        assert not active.upper.parent.exists()


def test_what_no_layer_can_hold_is_refused_and_can_be_discarded(store: SnapshotStore) -> None:
    active = store.prepare(None)
    _write(active, ".wh.file", "x")
    with pytest.raises(Invalid, match=r"names that begin with \.wh\."):
        store.commit(active)
    store.discard(active)
    store.discard(active)
    assert _leftovers(store) == []
    assert list(store.chains()) == []


def test_actives_of_a_killed_server_are_removed(store: SnapshotStore) -> None:
    _write(store.prepare(None), "file", "x")
    store.recover()
    assert _leftovers(store) == []


# Collection


def test_collection_keeps_what_is_young_or_in_use(
    store: SnapshotStore, image: list[LayerRef], layer: Callable[..., LayerRef]
) -> None:
    other = store.ensure([*image[:1], layer(_file("other", b"x"))])
    top = store.ensure(image)
    assert store.collect() == 0
    active = store.prepare(other)
    assert store.collect(_NOW) == 2, "the two layers of the image that the RUN does not stand on"
    assert len(store.lowers(other)) == 2
    store.discard(active)
    assert store.collect(_NOW) == 2
    assert list(store.chains()) == []
    assert store.ensure(image) == top
    assert _leftovers(store) == []


def test_wanting_a_chain_keeps_it_young(store: SnapshotStore, image: list[LayerRef]) -> None:
    chain = store.ensure(image)
    for item in store.chains():
        os.utime(store.root / "layers" / item.hex, (1, 1))
    store.ensure(image[:2])
    assert store.collect() == 1
    assert chain not in list(store.chains())
    assert len(list(store.chains())) == 2


def test_strange_files_in_the_store_do_no_harm(store: SnapshotStore, image: list[LayerRef]) -> None:
    (store.root / "layers/lost+found").mkdir()
    store.ensure(image)
    assert len(list(store.chains())) == 3
    assert store.collect(_NOW) == 3
