"""What the rooms above need of a database: SQLite on one machine, a real PostgreSQL beyond."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from slipway.access import Access
from slipway.access.roles import Permission, Role
from slipway.app.registry_role import RegistryRole
from slipway.app.settings import load
from slipway.base.clock import now
from slipway.content import LocalStore
from slipway.errors import Conflict, Invalid, NotFound, Unavailable
from slipway.oci import Descriptor, Digest, Manifest, MediaType, Reference
from slipway.registry import Registry
from slipway.registry.manifests import MissingReference
from slipway.state import Database
from slipway.state.tables import Build, ManifestReference, Project, Repository, RepositoryBlob
from slipway.state.tables import Manifest as ManifestRow
from slipway.testing.postgres import Postgres
from slipway.testing.pushing import image, pushed


@dataclass(slots=True)
class Site:
    """Two servers over one database and one store."""

    url: str
    databases: tuple[Database, Database]
    registries: tuple[Registry, Registry]
    accesses: tuple[Access, Access]


@pytest.fixture(params=["sqlite", "postgresql"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'state.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("database_server").database()
    one, two = Database(url), Database(url)
    await one.migrate()
    await two.migrate()
    accesses = Access(one, tmp_path / "keys"), Access(two, tmp_path / "keys")
    await accesses[0].create_project("demo")
    registries = tuple(Registry(item, LocalStore(tmp_path / "content")) for item in (one, two))
    yield Site(url, (one, two), (registries[0], registries[1]), accesses)
    await one.dispose()
    await two.dispose()


async def test_a_reader_sees_one_state_and_waits_for_no_writer(site: Site) -> None:
    database, other = site.databases
    names = select(Project.name).order_by(Project.name)
    async with database.session() as writing:
        writing.add(Project(name="one", public=False, policy={}, created=now()))
        await writing.flush()
        async with asyncio.timeout(60), other.read() as reading:
            assert list(await reading.scalars(names)) == ["demo"]
    async with other.read() as reading:
        assert list(await reading.scalars(names)) == ["demo", "one"]
        async with database.session() as writing:
            writing.add(Project(name="two", public=False, policy={}, created=now()))
        assert list(await reading.scalars(names)) == ["demo", "one"]


async def test_names_are_sorted_by_their_bytes(site: Site) -> None:
    registry = site.registries[0]
    digest = await image(registry, "demo/app", "first")
    tags = ["b", "B", "a", "_x", "10", "9", "a-b", "aB", "a_b", "ab", "first"]
    for tag in tags:
        await registry.tag("demo/app", digest, tag)
    wanted = sorted(tags, key=str.encode)
    assert await registry.lists.tags("demo/app", 100, "") == wanted
    pages: list[str] = []
    while page := await registry.lists.tags("demo/app", 3, pages[-1] if pages else ""):
        pages += page
    assert pages == wanted
    names = ["demo/a-b", "demo/ab", "demo/a_b", "demo/a/c", "demo/a.b", "demo/app"]
    for name in names:
        await pushed(registry, name, b"x")
    assert await registry.lists.catalog(["demo"], 100, "") == sorted(names, key=str.encode)
    assert await registry.lists.catalog(None, 100, "demo/a_b") == ["demo/ab", "demo/app"]


async def test_an_image_is_pushed_to_one_and_pulled_from_the_other(site: Site) -> None:
    one, two = site.registries
    digest = await image(one, "demo/app", "1")
    assert (await two.get_manifest("demo/app", "1")).digest == digest
    found = await two.resolve(Reference.parse("demo/app:1"))
    assert found.manifest.layers[0].digest == Digest.of(b"layer")
    assert await two.linked.size("demo/app", Digest.of(b"layer"), keep=True) == 5
    assert await two.linked.mount("demo/other", Digest.of(b"layer"), "demo/app")
    [record] = await two.lists.tag_records(["demo"])
    assert (record.tag, type(record.size), record.size > 5) == ("1", int, True)
    assert await two.lists.tags_of("demo/app", digest) == ["1"]
    [hit] = await two.lists.search(["APP".lower()], ["demo"], 10)
    assert (hit.repository, hit.tags, hit.updated) == ("demo/app", 1, record.updated)
    assert digest in [item async for page in two.roots.pages() for item in page]
    await two.delete_manifest("demo/app", str(digest))
    with pytest.raises(NotFound):
        await one.get_manifest("demo/app", "1")
    with pytest.raises(MissingReference):
        await image_without_layer(one)
    assert await one.uploads.expire() == 0


async def image_without_layer(registry: Registry) -> None:
    config = await pushed(registry, "demo/bad", b"{}")
    missing = Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(b"nowhere"), 7)
    manifest = Manifest(Descriptor(MediaType.OCI_CONFIG, config.digest, config.size), (missing,))
    await registry.put_manifest("demo/bad", "1", manifest.to_bytes(), manifest.media_type)


async def test_referrers(site: Site) -> None:
    one, two = site.registries
    subject = await image(one, "demo/app", "1")
    config = await pushed(one, "demo/app", b"{}")
    stored = await one.get_manifest("demo/app", "1")
    about = Manifest(
        Descriptor("application/x-report", config.digest, config.size),
        (),
        subject=Descriptor(stored.media_type, subject, len(stored.data)),
    )
    await one.put_manifest("demo/app", "report", about.to_bytes(), about.media_type)
    [found] = (await two.documents.referrers("demo/app", subject)).manifests
    assert found.artifact_type == "application/x-report"
    assert await two.documents.has_referrer("demo/app", subject, "application/x-report")


async def test_two_servers_write_the_same_rows_at_once(site: Site) -> None:
    async def push(number: int) -> Digest:
        return await image(site.registries[number % 2], "demo/same", "1")

    digests = await asyncio.gather(*(push(number) for number in range(12)))
    assert len(set(digests)) == 1
    async with site.databases[0].read() as session:
        counts = [
            await session.scalar(select(func.count()).select_from(table))
            for table in (Repository, ManifestRow, ManifestReference, RepositoryBlob)
        ]
    assert counts == [1, 1, 2, 2]


async def test_a_tag_moves_while_others_move_it(site: Site) -> None:
    digests = [
        await image(site.registries[0], "demo/app", f"v{number}", str(number).encode()) for number in range(4)
    ]

    async def move(number: int) -> None:
        for _ in range(5):
            await site.registries[number % 2].tag("demo/app", digests[number], "latest")

    await asyncio.gather(*(move(number) for number in range(4)))
    assert (await site.registries[1].get_manifest("demo/app", "latest")).digest in digests


async def test_what_a_tag_names_goes_in_the_same_moment(site: Site) -> None:
    """Either the tag comes too late, or it goes with its manifest; never is there a tag without one."""
    one, two = site.registries
    for number in range(6):
        digest = await image(one, "demo/app", f"v{number}", str(number).encode())
        work = one.tag("demo/app", digest, "latest"), two.delete_manifest("demo/app", str(digest))
        done = await asyncio.gather(*work, return_exceptions=True)
        assert all(item is None or isinstance(item, NotFound | Conflict) for item in done), done
    assert await one.lists.tags("demo/app", 10, "") == []


async def test_accounts(site: Site) -> None:
    one, two = site.accesses
    await one.create_user("ann", "correct horse")
    with pytest.raises(Conflict):
        await two.create_user("ann", "another horse")
    await asyncio.gather(*(item.set_member("demo", "ann", Role.DEVELOPER) for item in (one, two) * 3))
    identity = await two.authenticate("ann", "correct horse")
    assert Permission.PUSH in await two.permissions(identity, "demo")
    token, _ = await one.open_session(identity)
    assert (await two.check_session(token)).name == "ann"
    name, secret, expires = await one.create_robot("demo", "ci", Role.GUEST, timedelta(hours=1))
    assert expires is not None
    assert (await two.authenticate(name, secret)).role == "guest"
    await one.audit(identity, "push", "demo/app", project="demo", detail={"tag": "1"})
    subject, _ = two.tokens.check(one.tokens.issue("ann", []))
    assert subject == "ann"


async def test_a_nul_is_no_trouble(site: Site) -> None:
    """Programs print it, and clients send it."""
    database = site.databases[0]
    async with database.session() as session:
        project = await session.scalar(select(Project.id))
        words = {"app": "", "service": "", "owner": "", "source": "", "log_path": "", "limits": {}}
        said = "before\0after"
        session.add(Build(id="b", project_id=project, state="failed", created=now(), error=said, **words))
    async with database.read() as session:
        assert await session.scalar(select(Build.error)) == "before\ufffdafter"
    await image(site.registries[0], "demo/app", "1")
    with contextlib.suppress(Invalid):
        assert await site.registries[0].lists.tags("demo/app", 9, "\0") == ["1"]
    with pytest.raises((Invalid, NotFound)):
        await site.registries[0].get_manifest("demo/app", "1\0")


async def test_a_schema_is_made_by_one_of_many(database_server: Postgres) -> None:
    url = database_server.database()
    databases = [Database(url) for _ in range(5)]
    await asyncio.gather(*(database.migrate() for database in databases))
    async with databases[0].read() as session:
        assert (await session.execute(text("SELECT count(*) FROM alembic_version"))).scalar() == 1
    await asyncio.gather(*(database.dispose() for database in databases))


async def test_a_reader_cannot_write(database_server: Postgres) -> None:
    database = Database(database_server.database())
    await database.migrate()
    with pytest.raises(Exception, match="read-only"):
        async with database.read() as session:
            await session.execute(text("DELETE FROM projects"))
    await database.dispose()


async def test_one_is_alone(database_server: Postgres) -> None:
    url = database_server.database()
    one, two = Database(url), Database(url)
    async with one.alone(1) as first, two.alone(1) as second, two.alone(2) as other:
        assert (first, second, other) == (True, False, True)
    async with two.alone(1) as again:
        assert again
    for database in (one, two):
        await database.dispose()


async def stopped_in_the_middle(database: Database, database_server: Postgres) -> None:
    async with database.session() as session:
        await session.execute(text("SELECT 1"))
        database_server.stop()
        await session.execute(text("SELECT 1"))


async def test_a_database_that_goes_and_comes_back(database_server: Postgres, tmp_path: Path) -> None:
    database = Database(database_server.database())
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    await access.create_project("demo")
    registry = Registry(database, LocalStore(tmp_path / "content"))
    await image(registry, "demo/app", "1")
    try:
        with pytest.raises(Unavailable):
            await stopped_in_the_middle(database, database_server)
        for work in (
            registry.lists.tags("demo/app", 1, ""),
            image(registry, "demo/app", "2", hashlib.md5().digest()),
        ):
            with pytest.raises(Unavailable):
                await work
    finally:
        database_server.start()
    assert await registry.lists.tags("demo/app", 9, "") == ["1"]
    await image(registry, "demo/app", "2")
    await database.dispose()


async def test_a_registry_removes_what_nobody_needs(site: Site, tmp_path: Path) -> None:
    blobs = LocalStore(tmp_path / "content")
    digest = await image(site.registries[0], "demo/app", "1")
    lost = blobs.put(b"lost")
    for one in blobs.digests():
        os.utime(blobs.path(one), (1, 1))
    forgotten = await site.registries[0].uploads.start("demo/app")
    os.utime(tmp_path / "content/uploads" / forgotten.id, (1, 1))
    settings = load(None, {"SLIPWAY_DATA": str(tmp_path)})
    await RegistryRole(settings, site.databases[1], blobs).housekeep()
    assert blobs.size(lost) is None
    assert blobs.uploads() == []
    assert await site.registries[1].resolve(Reference("demo/app", digest=digest))
    with pytest.raises(NotFound):
        await site.registries[1].uploads.state("demo/app", forgotten.id)
