"""Manifests that are kept in memory: what they mean, and whether they may be had, is asked each time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.access import Access
from slipway.content import LocalStore
from slipway.errors import NotFound
from slipway.oci import Descriptor, Digest, ImageConfig, Platform
from slipway.registry import Registry
from slipway.registry.recent import RecentBytes
from slipway.state import Database


@pytest.fixture
async def registries(tmp_path: Path) -> AsyncIterator[tuple[Registry, Registry]]:
    """Two processes' registries over the same files."""
    databases = [Database.sqlite(tmp_path / "state.db") for _ in range(2)]
    await databases[0].migrate()
    access = Access(databases[0], tmp_path / "keys")
    for name in ("demo", "other"):
        await access.create_project(name)
    first, second = (Registry(database, LocalStore(tmp_path / "content")) for database in databases)
    yield first, second
    for database in databases:
        await database.dispose()


async def store(registry: Registry, text: str, tag: str) -> Descriptor:
    config = ImageConfig(Platform.host(), (), {"Cmd": [text]})
    return await registry.store_image("demo/x", [tag], config, [])


async def test_a_tag_that_another_process_moves_is_followed_at_once(
    registries: tuple[Registry, Registry],
) -> None:
    here, there = registries
    one = await store(here, "one", "v")
    for registry in registries:
        assert (await registry.get_manifest("demo/x", "v")).digest == one.digest
    two = await store(there, "two", "v")
    for registry in registries:
        found = await registry.get_manifest("demo/x", "v")
        assert (found.digest, Digest.of(found.data)) == (two.digest, two.digest)
        assert (await registry.get_manifest("demo/x", str(one.digest))).digest == one.digest


async def test_what_is_deleted_is_gone_although_its_bytes_are_kept(
    registries: tuple[Registry, Registry],
) -> None:
    here, there = registries
    made = await store(here, "one", "v")
    assert await here.get_manifest("demo/x", "v")
    for repository, reference in (("other/x", "v"), ("demo/y", str(made.digest)), ("demo/x", "w")):
        with pytest.raises(NotFound):
            await here.get_manifest(repository, reference)
    await there.delete_manifest("demo/x", str(made.digest))
    for reference in ("v", str(made.digest)):
        with pytest.raises(NotFound, match="there is no"):
            await here.get_manifest("demo/x", reference)


def test_what_is_kept_is_bounded_and_the_least_asked_for_goes() -> None:
    recent = RecentBytes(250)
    contents = [bytes([number]) * 100 for number in range(3)]
    digests = [Digest.of(data) for data in contents]
    for digest, data in zip(digests[:2], contents, strict=False):
        recent.add(digest, data)
        recent.add(digest, data)
    assert recent.get(digests[0]) == contents[0]
    recent.add(digests[2], contents[2])
    assert [recent.get(digest) is None for digest in digests] == [False, True, False]
    huge = bytes(2_000_000)
    recent.add(Digest.of(huge), huge)
    assert recent.get(Digest.of(huge)) is None
    assert recent.get(digests[0]) is not None
