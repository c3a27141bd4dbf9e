"""Sites that replicate, each a registry behind a real socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.access import Role, Vault
from slipway.errors import Conflict, Denied, Invalid, NotFound, SlipwayError
from slipway.registry.replication import Replicator, Sites, pushing
from slipway.testing.registry import EMPTY, SECRET, USER, Serving, digest_of, serving

INDEX = "application/vnd.oci.image.index.v1+json"


class Here:
    """A site of the test: its registry and its replicator."""

    def __init__(self, server: Serving, directory: Path) -> None:
        self.server = server
        self.sites = Sites(server.database, Vault(directory / "keys"))
        self.replicator = Replicator(server.database, server.registry, self.sites, server.access)

    async def add(self, name: str, other: Here, direction: Any = "push", **options: Any) -> None:
        host, port = other.server.address
        await self.sites.add(name, f"http://{host}:{port}", direction, USER, SECRET, options)

    async def sync(self, name: str) -> None:
        await self.replicator.sync(name, patient=False)

    async def digest(self, tag: str, repository: str = "lib/x") -> str:
        answer = await self.server("HEAD", f"/v2/{repository}/manifests/{tag}")
        return str(answer.headers["Docker-Content-Digest"]) if answer.status == 200 else ""

    async def push(self, tag: str, content: bytes, repository: str = "lib/x", **fields: Any) -> str:
        return str((await self.server.manifest(repository, content, tag=tag, **fields))["digest"])


@contextlib.asynccontextmanager
async def sites(directory: Path, count: int) -> AsyncIterator[list[Here]]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number in range(count):
            place = directory / str(number)
            place.mkdir()
            found.append(Here(await stack.enter_async_context(serving(place)), place))
        yield found


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_one_gives_to_another_what_it_lacks_and_no_more(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (primary, replica):
        digest = await primary.push("1", b"x" * 100_000)
        await primary.push("2", b"x" * 100_000, repository="lib/other")
        await primary.add("replica", replica)
        await primary.sync("replica")
        assert await replica.digest("1") == digest
        assert await replica.digest("2", "lib/other")
        site = await primary.sites.get("replica")
        assert (site.kind, site.state["images"], site.state["error"]) == ("slipway", 2, "")
        sent = site.state["bytes"]
        assert sent < 300_000
        await primary.push("3", b"x" * 100_000)  # the same image under another name
        await primary.sync("replica")
        assert await replica.digest("3") == digest
        assert (await primary.sites.get("replica")).state["bytes"] == sent
        progress = await primary.replicator.progress(await primary.sites.get("replica"))
        assert (progress.pending, progress.lag) == (0, 0.0)


async def test_tiers_and_projects_that_have_to_be_made(tmp_path: Path) -> None:
    async with sites(tmp_path, 3) as (top, middle, bottom):
        await top.server.access.create_project("shop")
        digest = await top.push("1", b"app", repository="shop/web")
        await top.add("middle", middle)
        await middle.add("bottom", bottom)
        await top.sync("middle")
        await middle.sync("bottom")
        assert await bottom.digest("1", "shop/web") == digest


async def test_indexes_signatures_and_what_refers_go_along(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (primary, replica):
        child = await primary.server.manifest("lib/x", b"child")
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}).encode()
        answer = await primary.server("PUT", "/v2/lib/x/manifests/1", index, Content_Type=INDEX)
        assert answer.status == 201
        await primary.add("replica", replica)
        await primary.sync("replica")
        about = await primary.server.manifest("lib/x", subject=child, artifactType="application/sbom")
        whole = {"mediaType": INDEX, "digest": digest_of(index), "size": len(index)}
        other = await primary.server.manifest("lib/x", subject=whole, artifactType="application/signature")
        await primary.push(digest_of(index).replace(":", "-") + ".sig", b"signature")
        await primary.sync("replica")
        found = json.loads((await replica.server("GET", f"/v2/lib/x/referrers/{whole['digest']}")).body)
        assert [item["digest"] for item in found["manifests"]] == [other["digest"]]
        assert await replica.digest(about["digest"])


async def test_only_what_the_filter_wants(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (primary, replica):
        config = json.dumps({"config": {"Labels": {"tier": "public"}}}).encode()
        labelled = {**await primary.server.blob("lib/x", config), "mediaType": EMPTY}
        await primary.push("v1", b"one", config=labelled)
        await primary.push("v2", b"two")
        await primary.push("latest", b"one", config=labelled)
        await primary.server.blob("lib/y", config)
        await primary.push("v3", b"one", repository="lib/y", config=labelled)
        await primary.add("replica", replica, tags=["v*"], repositories=["lib/x"], labels=["tier=public"])
        await primary.sync("replica")
        tags = json.loads((await replica.server("GET", "/v2/lib/x/tags/list")).body)["tags"]
        assert tags == ["v1"]
        assert (await replica.server("GET", "/v2/lib/y/tags/list")).status == 404


async def test_deletions_as_one_chooses(tmp_path: Path) -> None:
    async with sites(tmp_path, 3) as (primary, follower, keeper):
        digest = await primary.push("1", b"one")
        await primary.add("follower", follower, deletions=True)
        await primary.add("keeper", keeper)
        for name in ("follower", "keeper"):
            await primary.sync(name)
        await primary.server.registry.delete_manifest("lib/x", "1", "tester", whole=True)
        for name in ("follower", "keeper"):
            await primary.sync(name)
        assert (await follower.digest("1"), await keeper.digest("1")) == ("", digest)
        await primary.push("1", b"one")
        await primary.sync("follower")
        assert await follower.digest("1") == digest


async def test_two_primaries_agree_and_say_where_they_did_not(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (one, two):
        await one.add("two", two, deletions=True)
        await two.add("one", one, deletions=True)
        await one.push("base", b"base")
        await one.sync("two")
        await two.sync("one")
        a = await one.push("latest", b"from one")
        b = await two.push("latest", b"from two")
        await one.push("only-one", b"1")
        await two.push("only-two", b"2")
        for _ in range(2):
            await one.sync("two")
            await two.sync("one")
        assert await one.digest("latest") == await two.digest("latest") == b
        for site in (one, two):
            assert await site.digest("only-one")
            assert await site.digest("only-two")
            assert await site.digest(a), "what lost stays by its digest"
        assert await one.sites.conflicts() == []  # it heard of both from the site that saw them meet
        [conflict] = await two.sites.conflicts()
        assert (conflict.repository, conflict.tag, conflict.kept, conflict.lost) == ("lib/x", "latest", b, a)
        c = await one.push("latest", b"after all")
        await one.sync("two")
        await two.sync("one")
        assert await one.digest("latest") == await two.digest("latest") == c
        assert len(await one.sites.conflicts()) + len(await two.sites.conflicts()) == 1
        await two.server.registry.delete_manifest("lib/x", "latest", "tester")
        await two.sync("one")
        assert await one.digest("latest") == ""
        quiet = [await site.server.registry.feed.head() for site in (one, two)]
        for _ in range(3):
            await one.sync("two")
            await two.sync("one")
        assert [await site.server.registry.feed.head() for site in (one, two)] == quiet  # nothing goes round


async def test_what_is_pushed_again_outlives_an_earlier_removal_elsewhere(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (north, south):
        await north.add("south", south, deletions=True)
        await south.add("north", north, deletions=True)
        digest = await north.push("1", b"one")
        await north.sync("south")
        await north.server.registry.delete_manifest("lib/x", "1", "tester")
        assert await south.push("1", b"one") == digest
        await north.sync("south")
        await south.sync("north")
        assert (await south.digest("1"), await north.digest("1")) == (digest, digest)
        for site, other in ((north, "south"), (south, "north")):
            await site.sync(other)
            assert (await site.replicator.progress(await site.sites.get(other))).pending == 0


async def test_pulling_from_a_slipway_follows_its_changes(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (source, taker):
        first = await source.push("1", b"one")
        await taker.add("source", source, "pull", deletions=True)
        task = asyncio.create_task(taker.replicator.run_forever())
        try:
            await eventually(lambda: _has(taker, "1", first))
            second = await source.push("1", b"two")
            await eventually(lambda: _has(taker, "1", second))
            await source.server.registry.delete_manifest("lib/x", "1", "tester")
            await eventually(lambda: _has(taker, "1", ""))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await taker.sites.conflicts() == []


async def _has(site: Here, tag: str, digest: str) -> bool:
    return await site.digest(tag) == digest


async def test_pushing_as_it_happens(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (primary, replica):
        await primary.add("replica", replica)
        task = asyncio.create_task(primary.replicator.run_forever())
        try:
            for number in range(3):
                digest = await primary.push("1", bytes([number]))
                await eventually(lambda digest=digest: _has(replica, "1", digest))  # type: ignore[misc]
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_pull_may_take_only_what_its_account_may_see(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (source, taker):
        await source.server.access.create_project("secret")
        await source.push("1", b"one", repository="secret/x")
        await source.push("1", b"one")
        login, secret, _ = await source.server.access.create_robot("lib", "taker", Role.GUEST)
        host, port = source.server.address
        await taker.sites.add("source", f"http://{host}:{port}", "pull", login, secret, {})
        await taker.sync("source")
        assert await taker.digest("1")
        with pytest.raises(NotFound):
            await taker.server.access.project("secret")


async def test_who_may_not_delete_tells_no_moves(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (primary, replica):
        await primary.push("1", b"one")
        login, secret, _ = await replica.server.access.create_robot("lib", "dev", Role.DEVELOPER)
        host, port = replica.server.address
        await primary.sites.add("replica", f"http://{host}:{port}", "push", login, secret, {})
        with pytest.raises((Denied, Invalid), match="1 tags were refused"):
            await primary.sync("replica")
        progress = await primary.replicator.progress(await primary.sites.get("replica"))
        assert progress.pending == 1
        await replica.server.access.delete_robot("lib", "dev")
        robot, secret, _ = await replica.server.access.create_robot("lib", "dev", Role.ADMIN)
        await primary.sites.remove("replica")
        await primary.sites.add("replica", f"http://{host}:{port}", "push", robot, secret, {})
        await primary.sync("replica")
        assert await replica.digest("1")


async def test_a_site_that_is_not_there_is_behind_until_it_is(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (primary,):
        digest = await primary.push("1", b"one")
        place = tmp_path / "other"
        place.mkdir()
        async with serving(place) as server:
            await primary.add("other", Here(server, place))
            port = server.address[1]
            await primary.sync("other")
        await primary.push("2", b"two")
        with pytest.raises(SlipwayError, match="does not answer"):
            await primary.sync("other")
        site = await primary.sites.get("other")
        progress = await primary.replicator.progress(site)
        assert (progress.pending, "does not answer" in site.state["error"]) == (1, True)
        assert progress.lag > 0
        async with serving(place, port=port) as server:
            await primary.sync("other")
            other = Here(server, place)
            assert await other.digest("1") == digest
            assert await other.digest("2")


async def test_what_a_site_refused_is_not_forgotten_while_it_is_away(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (primary,):
        place = tmp_path / "other"
        place.mkdir()
        async with serving(place) as server:
            await server.access.set_policy("lib", "registry", {"quota": 10})
            await primary.add("other", Here(server, place))
            port = server.address[1]
            digest = await primary.push("1", b"one")
            with pytest.raises(Invalid, match="1 tags were refused"):
                await primary.sync("other")
        with pytest.raises(SlipwayError, match="does not answer"):
            await primary.sync("other")
        assert (await primary.replicator.progress(await primary.sites.get("other"))).pending == 1
        async with serving(place, port=port) as server:
            await server.access.set_policy("lib", "registry", {})
            await primary.sync("other")
            assert await Here(server, place).digest("1") == digest
        assert (await primary.replicator.progress(await primary.sites.get("other"))).pending == 0


async def test_no_more_is_refused_than_can_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "_MOST_AGAIN", 1)
    async with sites(tmp_path, 2) as (primary, replica):
        await replica.server.access.set_policy("lib", "registry", {"quota": 10})
        await primary.add("replica", replica)
        for tag in ("1", "2", "3"):
            await primary.push(tag, tag.encode())
        with pytest.raises(Invalid, match="tags were refused"):
            await primary.sync("replica")
        await replica.server.access.set_policy("lib", "registry", {})
        await primary.sync("replica")
        assert all([await replica.digest(tag) for tag in ("1", "2", "3")])


async def test_a_site_that_has_not_what_is_asked_for_is_asked_again(tmp_path: Path) -> None:
    """A repository that is not there yet, or a load balancer that answers 404 for a while."""
    async with sites(tmp_path, 2) as (source, taker):
        await taker.add("source", source, "pull", repositories=["lib/later"])
        await taker.sites.save("source", kind="registry")
        task = asyncio.create_task(taker.replicator.run_forever())
        try:
            await eventually(lambda: _failed(taker, "source"))
            digest = await source.push("1", b"one", repository="lib/later")

            async def come() -> bool:
                taker.replicator.wake("source")
                return await taker.digest("1", "lib/later") == digest

            await eventually(come)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _failed(site: Here, name: str) -> bool:
    return bool((await site.sites.get(name)).state.get("error"))


@pytest.mark.parametrize("direction", ["push", "pull"])
async def test_a_referrer_that_is_listed_and_gone_keeps_no_image_back(tmp_path: Path, direction: str) -> None:
    async with sites(tmp_path, 2) as (source, taker):
        digest = await source.push("1", b"one")
        gone = await source.server.manifest("lib/x", b"signature")
        listed = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [gone]}).encode()
        path = f"/v2/lib/x/manifests/{digest.replace(':', '-')}"
        assert (await source.server("PUT", path, listed, Content_Type=INDEX)).status == 201
        assert (await source.server("DELETE", f"/v2/lib/x/manifests/{gone['digest']}")).status == 202
        if direction == "push":
            await source.add("other", taker, tags=["1"])
            await source.sync("other")
        else:
            await taker.add("other", source, "pull")
            await taker.sync("other")
        assert await taker.digest("1") == digest


async def test_a_site_is_not_itself(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (primary,):
        await primary.push("1", b"one")
        await primary.add("me", primary)
        with pytest.raises(Conflict, match="itself"):
            await primary.sync("me")


async def test_secrets_are_sealed_and_names_are_checked(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (primary,):
        await primary.add("other", primary)
        assert SECRET.encode() not in (tmp_path / "0" / "state.db").read_bytes()
        assert SECRET.encode() not in (tmp_path / "0" / "state.db-wal").read_bytes()
        for name, url in (("A", "http://x"), ("a", "x:1"), ("a", "http://u:p@x"), ("a", "ftp://x")):
            with pytest.raises(Invalid):
                await primary.sites.add(name, url, "push", "", "", {})


async def test_the_line_is_not_filled(tmp_path: Path) -> None:
    async with sites(tmp_path, 2) as (primary, replica):
        await primary.push("1", bytes(3_000_000))
        await primary.add("replica", replica, bandwidth=2_000_000)
        began = time.monotonic()
        await primary.sync("replica")
        assert await replica.digest("1")
        assert time.monotonic() - began > 0.7  # half a second may go at once


@pytest.mark.parametrize("path", ["_slipway/changes", "_slipway/projects/new", "_slipway/other"])
async def test_the_doors_between_sites_are_closed(tmp_path: Path, path: str) -> None:
    async with sites(tmp_path, 1) as (site,):
        method = "PUT" if "projects" in path else "GET"
        url = f"http://{site.server.address[0]}:{site.server.address[1]}/v2/{path}"
        async with site.server.session.request(method, url) as answer:
            assert answer.status == 401


async def test_only_administrators_make_projects(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (site,):
        login, secret, _ = await site.server.access.create_robot("lib", "admin", Role.ADMIN)
        word = base64.b64encode(f"{login}:{secret}".encode()).decode()
        path = "/v2/_slipway/projects/new"
        assert (await site.server("PUT", path, Authorization=f"Basic {word}")).status == 403
        assert (await site.server("PUT", path)).status == 201
        assert (await site.server("PUT", path)).status == 200


@pytest.mark.parametrize("direction", ["push", "pull"])
async def test_many_images_go_at_once_and_what_they_share_goes_once(tmp_path: Path, direction: str) -> None:
    shared = b"shared" * 50_000
    async with sites(tmp_path, 2) as (one, two):
        for number in range(12):
            await one.server.manifest("lib/x", shared, f"own {number}".encode(), tag=f"t{number}")
        giver, taker = (one, "two") if direction == "push" else (two, "one")
        await giver.add(taker, two if direction == "push" else one, direction, at_once=6)
        await giver.sync(taker)
        for number in range(12):
            assert await two.digest(f"t{number}") == await one.digest(f"t{number}")
        site = await giver.sites.get(taker)
        own = sum(len(f"own {number}") for number in range(12))
        assert site.state["bytes"] == len(shared) + own + len(b"{}")
        assert site.state["images"] == 12
        assert site.cursor == await one.replicator.feed.head()


async def test_certificates_of_a_site_are_looked_at_when_it_is_added(tmp_path: Path) -> None:
    async with sites(tmp_path, 1) as (one,):
        for url, authority in (("https://x.example.org", "nonsense"), ("http://x.example.org", "-----BEGIN")):
            with pytest.raises(Invalid):
                await one.sites.add("x", url, "push", "", "", {"authority": authority})
        assert await one.sites.all() == []
