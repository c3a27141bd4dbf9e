"""A collection at the worst moment: between the look at a blob and the reference to it.

Here the moments are forced; ``test_registry_races`` finds some by chance.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from slipway.access import Access, Vault
from slipway.base.throttle import Throttle
from slipway.content import LocalStore
from slipway.distribution import Login, RemoteRegistry
from slipway.errors import NotFound
from slipway.oci import Descriptor, Digest, Manifest, Reference, parse_manifest
from slipway.registry import Registry, Trash, manifests
from slipway.registry.manifests import MissingReference
from slipway.registry.replication.intake import Intake
from slipway.registry.through import PullThrough
from slipway.registry.upstream import SECTION, Upstream
from slipway.state import Database
from slipway.testing.pushing import described, image, index, pushed
from slipway.testing.registry import SECRET, USER, serving

_GRACE = timedelta(hours=1)
_LAYER = b"layer"


class Eager(LocalStore):
    """Once ``sweep`` is set it runs after every look at a blob."""

    sweep: Callable[[], object] | None = None

    def size(self, digest: Digest) -> int | None:
        return self._then(super().size(digest))

    def renew(self, digest: Digest) -> int | None:
        return self._then(super().renew(digest))

    def _then(self, size: int | None) -> int | None:
        if self.sweep is not None:
            self.sweep()
        return size


@dataclass(slots=True)
class Bench:
    """One registry; ``arm`` makes blobs old (all, or these only) and lets the collector loose."""

    database: Database
    access: Access
    store: Eager
    registry: Registry
    removed: int = 0

    def arm(self, *only: Digest) -> None:
        for digest in only or self.store.digests():
            os.utime(self.store.path(digest), (1, 1))
        roots = functools.partial(self.registry.roots.from_thread, asyncio.get_running_loop())

        def sweep() -> None:
            self.removed += self.store.collect(roots, _GRACE).removed

        self.store.sweep = sweep

    def disarm(self) -> None:
        self.store.sweep = None

    async def whole(self, repository: str, reference: str) -> None:
        """All that the image needs is there, after one more collection."""
        assert self.store.sweep is not None
        await asyncio.to_thread(self.store.sweep)
        self.disarm()
        stored = await self.registry.get_manifest(repository, reference)
        for item in parse_manifest(stored.data, stored.media_type).references:
            assert self.store.size(item.digest) == item.size, item


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    await access.create_project("lib")
    store = Eager(tmp_path / "content")
    found = Bench(database, access, store, Registry(database, store))
    access.on_policy.append(found.registry.rules.forget)
    check = manifests.check_references

    async def checked(*given: Any) -> None:
        await check(*given)
        if store.sweep is not None:  # all is there: now, before anything is committed
            await asyncio.to_thread(store.sweep)

    monkeypatch.setattr(manifests, "check_references", checked)
    yield found
    found.disarm()
    await database.dispose()


async def unreferenced(bench: Bench) -> bytes:
    """A manifest that was deleted for good; its blobs are still linked, and nothing needs them."""
    await image(bench.registry, "lib/a", "1", _LAYER)
    data = (await bench.registry.get_manifest("lib/a", "1")).data
    await bench.registry.delete_manifest("lib/a", "1", whole=True, kept=False)
    with pytest.raises(NotFound):
        await bench.registry.get_manifest("lib/a", str(Digest.of(data)))
    return data


async def test_a_manifest_is_put_whose_blobs_have_just_lost_their_last_reference(bench: Bench) -> None:
    data = await unreferenced(bench)
    lost = bench.store.put(b"nobody's")
    bench.arm()
    await bench.registry.put_manifest("lib/a", "2", data, parse_manifest(data).media_type)
    await bench.whole("lib/a", "2")
    assert bench.store.size(lost) is None
    assert bench.removed >= 1


async def test_blobs_that_are_gone_already_are_said_to_be(bench: Bench) -> None:
    data = await unreferenced(bench)
    bench.arm()
    assert bench.store.sweep is not None
    await asyncio.to_thread(bench.store.sweep)
    with pytest.raises(MissingReference):
        await bench.registry.put_manifest("lib/a", "2", data, parse_manifest(data).media_type)
    bench.disarm()
    await image(bench.registry, "lib/a", "2", _LAYER)


async def test_a_blob_is_mounted_that_nothing_needs(bench: Bench) -> None:
    data = await unreferenced(bench)
    for item in parse_manifest(data).references:
        bench.arm(item.digest)
        assert await bench.registry.linked.mount("lib/b", item.digest, "lib/a")
    await bench.registry.put_manifest("lib/b", "1", data, parse_manifest(data).media_type)
    await bench.whole("lib/b", "1")


async def test_a_client_that_was_told_that_a_blob_is_here_does_not_send_it(bench: Bench) -> None:
    data = await unreferenced(bench)
    for item in parse_manifest(data).references:
        bench.arm(item.digest)
        assert await bench.registry.linked.size("lib/a", item.digest, keep=True) == item.size
    await bench.registry.put_manifest("lib/a", "1", data, parse_manifest(data).media_type)
    await bench.whole("lib/a", "1")


async def test_an_index_and_its_images(bench: Bench) -> None:
    digest = await image(bench.registry, "lib/a", "1", _LAYER)
    entry = await described(bench.registry, "lib/a", digest)
    bench.arm()
    await index(bench.registry, "lib/a", "all", entry)
    await bench.registry.store_index("lib/a", ["ours"], [entry])
    await bench.whole("lib/a", "1")
    await bench.registry.get_manifest("lib/a", "all")


async def test_an_image_is_taken_out_of_the_trash_or_pushed_again(bench: Bench) -> None:
    trash = Trash(bench.database)
    digest = await image(bench.registry, "lib/a", "1", _LAYER)
    data = (await bench.registry.get_manifest("lib/a", "1")).data
    bench.arm()
    await bench.registry.delete_manifest("lib/a", "1", whole=True)
    await trash.restore("lib/a", "1", "ann")
    await bench.whole("lib/a", "1")
    bench.arm()
    await bench.registry.delete_manifest("lib/a", str(digest))
    await bench.registry.put_manifest("lib/a", "1", data, parse_manifest(data).media_type)
    await trash.empty()
    await bench.whole("lib/a", "1")


async def test_an_image_comes_from_another_site_whose_blobs_were_here(bench: Bench, tmp_path: Path) -> None:
    await unreferenced(bench)
    async with other_site(tmp_path) as (remote, there):
        bench.arm()
        intake = Intake(bench.database, bench.registry, remote, Throttle(0))
        digest = await intake.image(there, "lib/a", lambda _size: None)
        await bench.whole("lib/a", str(digest))


async def test_an_image_is_fetched_whose_blobs_were_here(bench: Bench, tmp_path: Path) -> None:
    await unreferenced(bench)
    async with other_site(tmp_path) as (_remote, there):
        await bench.access.create_project("hub")
        secret = Vault(tmp_path / "keys").seal(SECRET)
        value = Upstream.parse(
            {"url": f"http://{there.registry}", "username": USER, "secret": secret, "prefix": "lib"}
        )
        await bench.access.set_policy("hub", SECTION, value.to_json())
        through = PullThrough(bench.database, bench.registry, Vault(tmp_path / "keys"))
        bench.arm()
        stored = await through.manifest("hub/a", there.tag)
        for item in parse_manifest(stored.data).references:
            assert (await through.blob("hub/a", item.digest, keep=False, fetch=True)).size == item.size
        while any(found.arriving for found in await fetched(through, stored.data)):
            await asyncio.sleep(0.01)
        await bench.whole("hub/a", there.tag)


async def fetched(through: PullThrough, data: bytes) -> list[Any]:
    blobs = parse_manifest(data).references
    return [await through.blob("hub/a", item.digest, keep=False, fetch=True) for item in blobs]


@asynccontextmanager
async def other_site(tmp_path: Path) -> AsyncIterator[tuple[RemoteRegistry, Reference]]:
    """The same image at another registry."""
    (tmp_path / "there").mkdir()
    async with serving(tmp_path / "there") as there:
        digest = await image(there.registry, "lib/a", "1", _LAYER)
        host = f"{there.address[0]}:{there.address[1]}"
        async with RemoteRegistry(host, Login(USER, SECRET), False) as remote:
            assert (await remote.digest_of(Reference("lib/a", host, "1"))) == digest
            yield remote, Reference("lib/a", host, "1")


async def test_the_layers_of_a_stored_image_are_the_callers_to_hold(bench: Bench) -> None:
    """``store_image`` is called with layers under a lease: what it adds itself, it holds itself."""
    await image(bench.registry, "lib/a", "1", _LAYER)
    found = await bench.registry.resolve(Reference.parse("lib/a:1"))
    layer: Descriptor = found.manifest.layers[0]
    await bench.registry.delete_manifest("lib/a", "1", whole=True, kept=False)
    with bench.store.lease("build", _GRACE) as lease:
        assert lease.hold([layer.digest]) == {layer.digest: layer.size}
        bench.arm()
        made = await bench.registry.store_image("lib/b", ["1"], found.config, [layer])
    assert isinstance(parse_manifest((await bench.registry.get_manifest("lib/b", "1")).data), Manifest)
    await bench.whole("lib/b", str(made.digest))
    assert await pushed(bench.registry, "lib/b", b"more")
