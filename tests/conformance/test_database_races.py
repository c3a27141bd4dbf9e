"""Two servers over one PostgreSQL change the same things at the same moment: each outcome is one or the other's.

The first has done its part and not committed; the second comes to the same rows and waits, or it is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access import Access
from slipway.base.clock import now
from slipway.content import LocalStore
from slipway.errors import Conflict, NotFound, Unavailable
from slipway.oci import Digest, Index, parse_manifest
from slipway.registry import Registry, Retention, Trash, manifests, repositories, tagging, trash
from slipway.registry.manifests import MissingReference
from slipway.registry.moves import Moved
from slipway.registry.tagging import Move
from slipway.state import Database
from slipway.state.tables import App, Manifest, ReplicationConflict, Tag
from slipway.testing.postgres import Postgres
from slipway.testing.pushing import described, image, index

_GRACE = timedelta(seconds=1)


@dataclass(slots=True)
class Site:
    """Two servers over one database and one store. The trash keeps nothing."""

    one: Database
    two: Database
    registries: tuple[Registry, Registry]
    store: LocalStore

    async def meanwhile(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        """Begin ``work``; it ends, or waits for a row, before this returns."""
        task = asyncio.create_task(work)
        end = time.monotonic() + 60
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not task.done():
            assert time.monotonic() < end
            async with self.one.read() as session:
                if await session.scalar(waiting):
                    break
            await asyncio.sleep(0.02)
        return task

    async def consistent(self) -> None:
        """No tag leads to the trash, and an index has the images that it needs."""
        registry = self.registries[0]
        async with self.one.read() as session:
            query = select(Tag.name).join(Manifest, Manifest.id == Tag.manifest_id)
            assert list(await session.scalars(query.where(Manifest.deleted.is_not(None)))) == []
            live = list(await session.scalars(select(Manifest.digest).where(Manifest.deleted.is_(None))))
        for digest in live:
            stored = await registry.get_manifest("demo/app", digest)
            found = parse_manifest(stored.data, stored.media_type)
            for item in found.references:
                if isinstance(found, Index):
                    await registry.get_manifest("demo/app", str(item.digest))
                else:
                    assert await registry.linked.size("demo/app", item.digest) == item.size


@pytest.fixture
async def site(database_server: Postgres, tmp_path: Path) -> AsyncIterator[Site]:
    url = database_server.database()
    one, two = Database(url), Database(url)
    await one.migrate()
    access = Access(one, tmp_path / "keys")
    await access.create_project("demo")
    await access.set_policy("demo", "registry", {"trash_hours": 0})
    store = LocalStore(tmp_path / "content")
    yield Site(one, two, (Registry(one, store), Registry(two, LocalStore(tmp_path / "content"))), store)
    await one.dispose()
    await two.dispose()


async def test_what_is_pushed_again_while_the_trash_is_emptied_stays(site: Site) -> None:
    registry = site.registries[0]
    digest = await image(registry, "demo/app", "1")
    stored = await registry.get_manifest("demo/app", "1")
    await registry.delete_manifest("demo/app", str(digest))
    async with site.one.session() as session:
        owner = await repositories.require(session, "demo/app")
        manifest = parse_manifest(stored.data, stored.media_type)
        row = await manifests.record(session, owner, manifest, digest, len(stored.data))
        await tagging.put(session, owner, "2", row)
        emptying = await site.meanwhile(Trash(site.two).empty())
    assert await emptying == 0
    assert (await registry.get_manifest("demo/app", "2")).digest == digest
    await site.consistent()


async def test_what_is_taken_out_of_the_trash_while_it_is_emptied_stays(site: Site) -> None:
    registry = site.registries[0]
    digest = await image(registry, "demo/app", "1")
    await registry.delete_manifest("demo/app", str(digest))
    async with site.one.session() as session:
        owner = await repositories.require(session, "demo/app")
        await trash.restore(session, owner, "1", "ann")
        emptying = await site.meanwhile(Trash(site.two).empty())
    assert await emptying == 0
    assert (await registry.get_manifest("demo/app", "1")).digest == digest


@pytest.mark.parametrize("by_tag", [True, False])
async def test_nothing_is_said_to_be_back_that_has_just_gone(site: Site, by_tag: bool) -> None:
    registry = site.registries[0]
    digest = await image(registry, "demo/app", "1")
    await registry.delete_manifest("demo/app", str(digest))
    async with site.one.session() as session:
        owner = await repositories.require(session, "demo/app")
        await trash.purge(session, owner, str(digest))
        name = "1" if by_tag else str(digest)
        restoring = await site.meanwhile(Trash(site.two).restore("demo/app", name, "ann"))
    with pytest.raises(NotFound):
        await restoring
    with pytest.raises(NotFound):
        await registry.get_manifest("demo/app", str(digest))


async def test_an_index_is_put_while_its_image_is_thrown_away(site: Site) -> None:
    one, two = site.registries
    digest = await image(one, "demo/app", "1")
    entry = await described(one, "demo/app", digest)
    async with site.one.session() as session:
        owner = await repositories.require(session, "demo/app")
        await trash.throw_away(session, owner, str(digest), "ann")
        putting = await site.meanwhile(index(two, "demo/app", "all", entry))
    with pytest.raises(MissingReference):
        await putting
    await site.consistent()


async def test_the_last_tag_of_an_image_goes_while_an_index_of_it_is_put(site: Site) -> None:
    one, two = site.registries
    digest = await image(one, "demo/app", "1")
    entry = await described(one, "demo/app", digest)
    async with site.one.session() as session:
        owner = await repositories.require(session, "demo/app")
        made = Index((entry,))
        await manifests.check_references(session, owner, made, {})
        removing = await site.meanwhile(two.delete_manifest("demo/app", "1", whole=True))
        await manifests.record(session, owner, made, Digest.of(made.to_bytes()), len(made.to_bytes()))
        await asyncio.to_thread(site.store.put, made.to_bytes())
    await removing
    await one.get_manifest("demo/app", str(digest))
    await site.consistent()


async def test_what_is_about_an_image_is_tagged_while_both_are_thrown_away(site: Site) -> None:
    one, two = site.registries
    digest = await image(one, "demo/app", "1")
    about = await image(one, "demo/app", "", b"report", await described(one, "demo/app", digest))
    async with site.one.session() as session:
        owner = await repositories.require(session, "demo/app")
        row = await manifests.by_digest(session, owner, str(about), lock=True)
        assert row is not None
        await tagging.put(session, owner, "report", row)
        removing = await site.meanwhile(two.delete_manifest("demo/app", str(digest)))
    await removing
    await site.consistent()


async def test_of_two_who_push_an_immutable_tag_one_is_refused(site: Site, tmp_path: Path) -> None:
    one, two = site.registries
    await Access(site.one, tmp_path / "keys").set_policy("demo", "registry", {"immutable": ["v*"]})
    first, second = [await image(one, "demo/app", "", layer) for layer in (b"first", b"second")]
    async with site.one.session() as session:
        await _tagged(session, first, "v1")
        pushing = await site.meanwhile(two.tag("demo/app", second, "v1"))
    with pytest.raises(Conflict, match="immutable"):
        await pushing
    assert (await two.get_manifest("demo/app", "v1")).digest == first


async def test_an_older_move_of_another_site_undoes_no_push_that_is_just_made(site: Site) -> None:
    one, two = site.registries
    await image(one, "demo/app", "1")
    first = await one.feed.of("demo/app", "1")
    assert first is not None
    known = first.moved.move
    told = Move(known.stamp + 1, "there", {**known.versions, "there": known.stamp + 1})
    ours, theirs = [await image(one, "demo/app", "", layer) for layer in (b"ours", b"theirs")]
    stored = await one.get_manifest("demo/app", str(theirs))
    async with site.one.session() as session:
        await _tagged(session, ours, "1")
        telling = await site.meanwhile(
            two.put_manifest("demo/app", "1", stored.data, stored.media_type, "peer", Moved(told, "bob"))
        )
    await telling
    assert (await two.get_manifest("demo/app", "1")).digest == ours
    async with site.two.read() as session:
        found = list(await session.scalars(select(ReplicationConflict)))
    assert [(item.kept, item.lost) for item in found] == [(str(ours), str(theirs))]


async def test_a_tag_that_is_just_moved_does_not_go_with_the_image_it_led_to(site: Site) -> None:
    one, two = site.registries
    before = await image(one, "demo/app", "1", b"before")
    after = await image(one, "demo/app", "", b"after")
    async with site.one.session() as session:
        await _tagged(session, after, "1")
        removing = await site.meanwhile(two.delete_manifest("demo/app", str(before)))
    with pytest.raises(Conflict):
        await removing
    assert (await two.get_manifest("demo/app", "1")).digest == after


async def test_retention_takes_no_image_that_is_just_tagged(site: Site, tmp_path: Path) -> None:
    one = site.registries[0]
    await Access(site.one, tmp_path / "keys").set_policy("demo", "registry", {"untagged_days": 1})
    digest = await image(one, "demo/app", "")
    async with site.one.session() as session:
        await session.execute(update(Manifest).values(created=now() - timedelta(days=2)))
    async with site.one.session() as session:
        await _tagged(session, digest, "1")
        retaining = await site.meanwhile(Retention(site.two).apply("demo"))
    await retaining
    assert (await one.get_manifest("demo/app", "1")).digest == digest


async def test_retention_takes_no_tag_that_is_just_pushed_again(site: Site, tmp_path: Path) -> None:
    one = site.registries[0]
    rules = [{"match": "*", "pushed_days": 1}]
    await Access(site.one, tmp_path / "keys").set_policy("demo", "registry", {"retention": rules})
    digest = await image(one, "demo/app", "1")
    async with site.one.session() as session:
        await session.execute(update(Tag).values(updated=now() - timedelta(days=2)))
    async with site.one.session() as session:
        await _tagged(session, digest, "1")
        retaining = await site.meanwhile(Retention(site.two).apply("demo"))
    await retaining
    assert (await one.get_manifest("demo/app", "1")).digest == digest


async def _tagged(session: AsyncSession, digest: Digest, tag: str) -> None:
    owner = await repositories.require(session, "demo/app")
    row = await manifests.by_digest(session, owner, str(digest), lock=True)
    assert row is not None
    await tagging.put(session, owner, tag, row)
    await session.flush()


class Life:
    """Pushes without asking whether blobs are here, as a client does that remembers; deletes, and takes back."""

    def __init__(self, site: Site, number: int, end: float) -> None:
        self.registry = site.registries[number % 2]
        self.trash = Trash((site.one, site.two)[number % 2])
        self.random = random.Random(number)
        self.number = number
        self.end = end
        self.kept: dict[str, Digest] = {}
        self.late = 0
        self.done = {"pushed": 0, "indexed": 0, "deleted": 0, "restored": 0}

    async def run(self) -> None:
        while time.monotonic() < self.end or min(self.done.values()) < 2:
            assert time.monotonic() < self.end + 120, self.done
            tag = f"{self.number}-{self.random.randrange(3)}"
            try:
                await self._remove(tag) if tag in self.kept else await self._push(tag)
            except (Unavailable, Conflict):
                continue  # two that locked the same rows, or a tag that was moved meanwhile: nothing was done

    async def _push(self, tag: str) -> None:
        layer = self.random.randrange(6).to_bytes(2, "big") * 100
        digest = await image(self.registry, "demo/app", "", layer)
        stored = await self.registry.get_manifest("demo/app", str(digest))
        await asyncio.sleep(self.random.choice((0, 0.3)))
        try:  # from here on blindly: the image may be in the trash by now, and its blobs gone
            if self.random.random() < 0.3:
                entry = await described(self.registry, "demo/app", digest)
                self.kept[tag] = await index(self.registry, "demo/app", tag, entry)
                self.done["indexed"] += 1
            else:
                put = await self.registry.put_manifest("demo/app", tag, stored.data, stored.media_type)
                self.kept[tag] = put.digest
                self.done["pushed"] += 1
        except NotFound:
            self.late += 1

    async def _remove(self, tag: str) -> None:
        before = self.kept.pop(tag)
        await self.registry.delete_manifest("demo/app", tag, "life", whole=True)
        self.done["deleted"] += 1
        if self.random.random() < 0.5:
            try:
                await self.trash.restore("demo/app", tag, "life")
                self.kept[tag] = before
                self.done["restored"] += 1
            except NotFound:
                self.late += 1


@pytest.mark.slow
async def test_what_two_servers_acknowledge_outlives_every_collection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it at once over the same few images, with pauses where it hurts: inside of the transactions."""
    chance = random.Random(0)
    for place, name in ((manifests, "check_references"), (trash, "_with_all_about"), (tagging, "put")):
        monkeypatch.setattr(place, name, _paused(getattr(place, name), chance))
    lives = [Life(site, number, time.monotonic() + 20) for number in range(4)]
    running = asyncio.gather(*(life.run() for life in lives))
    removed = 0
    while not running.done():
        roots = functools.partial(site.registries[1].roots.from_thread, asyncio.get_running_loop())
        removed += (await asyncio.to_thread(site.store.collect, roots, _GRACE)).removed
        with contextlib.suppress(Unavailable):  # it waited for somebody who waited for it
            await Trash(site.two).empty()
    await running
    assert removed > 0
    for life in lives:
        for tag, digest in life.kept.items():
            assert (await life.registry.get_manifest("demo/app", tag)).digest == digest
    await site.consistent()


def _paused(work: Any, chance: random.Random) -> Any:
    async def paused(*given: Any, **named: Any) -> Any:
        done = await work(*given, **named)
        await asyncio.sleep(chance.choice((0, 0, 0.05)))
        return done

    return paused


async def test_a_project_stays_with_the_app_that_is_just_delivered(site: Site, tmp_path: Path) -> None:
    access = Access(site.two, tmp_path / "keys")
    project = await access.project("demo")
    async with site.one.session() as session:
        session.add(
            App(
                project_id=project.id, name="new", current_release=None, state="active", scale={}, created=now()
            )
        )  # fmt: skip
        await session.flush()
        removing = await site.meanwhile(access.delete_project("demo"))
    with pytest.raises(Conflict, match="has apps"):
        await removing
    assert (await access.project("demo")).id == project.id
