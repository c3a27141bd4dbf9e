"""Quotas, immutable tags, the trash, retention: through the registry's own doors."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from slipway.access import Role
from slipway.errors import Conflict, Invalid, NotFound
from slipway.registry import Retention, Trash
from slipway.registry.policy import KeepRule, RegistryPolicy, TagPattern
from slipway.registry.retention import TagFacts, judge
from slipway.state.tables import ProjectBlob, Tag
from slipway.testing.registry import MANIFEST, Serving, digest_of, serving

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def used(server: Serving) -> int:
    """What is counted, which must be what the rows say."""
    async with server.database.read() as session:
        counted = await session.scalar(select(func.coalesce(func.sum(ProjectBlob.size), 0)))
    project = await server.access.project("lib")
    assert project.used == counted
    return project.used


async def tag_names(server: Serving, repository: str = "lib/x") -> list[str]:
    answer = await server("GET", f"/v2/{repository}/tags/list")
    found: list[str] = json.loads(answer.body)["tags"]
    return found


async def test_a_blob_counts_once_however_many_images_need_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        layer = b"x" * 10_000
        await server.manifest("lib/x", layer, tag="1")
        one = await used(server)
        await server.manifest("lib/x", layer, tag="1")
        assert await used(server) == one
        await server.manifest("lib/y", layer, tag="1", annotations={"other": "image"})
        assert one < await used(server) < one + 1000
        for repository in ("lib/x", "lib/y"):
            await server.registry.delete_manifest(repository, "1", "tester", whole=True, kept=False)
        assert await used(server) == 0


async def test_a_full_quota_refuses_and_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.access.set_policy("lib", "registry", {"quota": 15_000})
        await server.manifest("lib/x", b"x" * 10_000, tag="1")
        layer = await server.blob("lib/x", b"y" * 10_000)
        config = {**await server.blob("lib/x", b"{}"), "mediaType": "application/vnd.oci.empty.v1+json"}
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
        data = json.dumps(body).encode()
        answer = await server("PUT", "/v2/lib/x/manifests/2", data, Content_Type=MANIFEST)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert b"quota" in answer.body
        assert await tag_names(server) == ["1"]
        from slipway.access import AuditFilter

        events = await server.access.audit_log.events(AuditFilter(action="quota.*"), 10)
        assert [(event.allowed, event.detail["tag"]) for event in events] == [(False, "2")]
        await server.access.set_policy("lib", "registry", {"quota": None})
        answer = await server("PUT", "/v2/lib/x/manifests/2", data, Content_Type=MANIFEST)
        assert answer.status == 201


async def test_an_immutable_tag_stays_where_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.access.set_policy("lib", "registry", {"immutable": ["v*"]})
        first = await server.manifest("lib/x", b"one", tag="v1")
        await server.manifest("lib/x", b"one", tag="latest")
        await server.manifest("lib/x", b"one", tag="v1")  # the same again is no change
        with pytest.raises(AssertionError, match="immutable"):
            await server.manifest("lib/x", b"two", tag="v1")
        await server.manifest("lib/x", b"two", tag="latest")
        for reference in ("v1", first["digest"]):
            with pytest.raises(Conflict, match="immutable"):
                await server.registry.delete_manifest("lib/x", reference, "tester")
        assert await tag_names(server) == ["latest", "v1"]


async def test_what_was_thrown_away_is_gone_and_can_be_taken_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        image = await server.manifest("lib/x", b"one", tag="1")
        await server.manifest("lib/x", b"one", tag="2")
        about = await server.manifest("lib/x", subject=image, artifactType="application/sbom")
        sig = image["digest"].replace(":", "-") + ".sig"
        await server.manifest("lib/x", b"signature", tag=sig)
        before = await used(server)
        trash = Trash(server.database)
        answer = await server("DELETE", f"/v2/lib/x/manifests/{image['digest']}")
        assert answer.status == 202
        for reference in (image["digest"], "1", "2", about["digest"], sig):
            assert (await server("GET", f"/v2/lib/x/manifests/{reference}")).status == 404
        assert await tag_names(server) == []
        assert (
            json.loads((await server("GET", f"/v2/lib/x/referrers/{image['digest']}")).body)["manifests"]
            == []
        )
        assert {item.tag for item in await trash.list("lib")} == {"1", "2", sig}
        assert await used(server) == before
        await trash.restore("lib/x", image["digest"], "tester")
        assert await tag_names(server) == sorted(["1", "2", sig])
        found = json.loads((await server("GET", f"/v2/lib/x/referrers/{image['digest']}")).body)["manifests"]
        assert [item["digest"] for item in found] == [about["digest"]]
        assert await trash.list("lib") == []


async def test_the_last_tag_takes_the_image_along_and_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        image = await server.manifest("lib/x", b"one", tag="1")
        await server.manifest("lib/x", b"one", tag="2")
        await server.registry.delete_manifest("lib/x", "1", "tester", whole=True)
        assert (await server("GET", f"/v2/lib/x/manifests/{image['digest']}")).status == 200
        await server.registry.delete_manifest("lib/x", "2", "tester", whole=True)
        assert (await server("GET", f"/v2/lib/x/manifests/{image['digest']}")).status == 404
        trash = Trash(server.database)
        await trash.restore("lib/x", "2", "tester")
        assert await tag_names(server) == ["2"]
        await trash.restore("lib/x", "1", "tester")
        assert await tag_names(server) == ["1", "2"]
        with pytest.raises(NotFound):
            await trash.restore("lib/x", "1", "tester")
        await server.registry.delete_manifest("lib/x", "1", "tester")
        await server.manifest("lib/x", b"other", tag="1")
        with pytest.raises(NotFound):  # pushed anew: nothing of that name is in the trash any more
            await trash.restore("lib/x", "1", "tester")


async def test_who_removed_the_last_tag_removed_what_went_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        image = await server.manifest("lib/x", b"one", tag="1")
        sig = image["digest"].replace(":", "-") + ".sig"
        await server.manifest("lib/x", b"signature", tag=sig)
        await server.access.set_policy("lib", "registry", {"immutable": ["sha256-*"]})
        await server.registry.delete_manifest("lib/x", "1", "somebody", whole=True)
        thrown = await Trash(server.database).list("lib")
        assert {(item.tag, item.deleted_by) for item in thrown} == {("1", "somebody"), (sig, "somebody")}


async def test_the_trash_is_emptied_after_its_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.manifest("lib/x", b"one", tag="1")
        await server.registry.delete_manifest("lib/x", "1", "tester", whole=True)
        trash = Trash(server.database)
        assert await trash.empty() == 0
        assert len(await trash.list("lib")) == 1
        await server.access.set_policy("lib", "registry", {"trash_hours": 0})
        assert await trash.empty() == 1
        assert (await trash.list("lib"), await used(server)) == ([], 0)
        roots = {item async for page in server.registry.roots.pages() for item in page}
        assert roots == set()


async def test_developers_take_back_what_they_pushed_and_nothing_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.manifest("lib/x", b"one", tag="theirs")
        login, secret, _ = await server.access.create_robot("lib", "dev", Role.DEVELOPER)
        word = base64.b64encode(f"{login}:{secret}".encode()).decode()
        mine = f"Basic {word}"
        path = "/v2/lib/x/manifests"
        manifest = (await server("GET", f"{path}/theirs")).body
        assert (
            await server("PUT", f"{path}/mine", manifest, Content_Type=MANIFEST, Authorization=mine)
        ).status == 201
        assert (await server("DELETE", f"{path}/theirs", Authorization=mine)).status == 403
        digest = (await server("HEAD", f"{path}/mine")).headers["Docker-Content-Digest"]
        assert (
            await server("DELETE", f"{path}/{digest}", Authorization=mine)
        ).status == 403  # somebody else's image
        assert (await server("DELETE", f"{path}/mine", Authorization=mine)).status == 202
        assert await tag_names(server) == ["theirs"]
        guest, secret, _ = await server.access.create_robot("lib", "guest", Role.GUEST)
        word = base64.b64encode(f"{guest}:{secret}".encode()).decode()
        denied = await server("DELETE", f"{path}/theirs", Authorization=f"Basic {word}")
        assert (denied.status, denied.code) == (403, "DENIED")


def facts(tag: str, pushed: float, pulled: float | None = None, repository: str = "p/web") -> TagFacts:
    """Days before now."""
    return TagFacts(
        repository, tag, "sha256:" + tag, NOW - timedelta(days=pushed),
        None if pulled is None else NOW - timedelta(days=pulled),
    )  # fmt: skip


def policy(*rules: dict[str, object], **fields: object) -> RegistryPolicy:
    return RegistryPolicy.parse({"retention": rules, **fields})


def kept(tags: list[TagFacts], rules: RegistryPolicy) -> set[str]:
    return {item.facts.tag for item in judge(tags, rules, NOW) if item.keep}


def test_retention_by_count_age_pattern_and_last_pull() -> None:
    tags = [facts(f"v{day}", day) for day in range(1, 6)] + [facts("old", 400), facts("used", 400, 2)]
    assert kept(tags, policy({"match": "v*", "last": 2})) == {"v1", "v2", "old", "used"}
    assert kept(tags, policy({"match": "*", "pushed_days": 3.5})) == {"v1", "v2", "v3"}
    assert kept(tags, policy({"match": "*", "pulled_days": 7})) == {"used"}
    both = policy({"match": "v*", "last": 1}, {"match": "*", "pulled_days": 7})
    assert kept(tags, both) == {"v1", "used"}
    assert kept(tags, policy()) == {item.tag for item in tags}
    assert kept(tags, policy({"match": "web:v*", "last": 1}, immutable=["v4"])) == {"v1", "v4", "old", "used"}
    assert kept(tags, policy({"match": "api:*", "last": 1})) == {item.tag for item in tags}


def test_counts_are_of_each_repository() -> None:
    tags = [facts("v1", 1), facts("v2", 2), facts("v3", 3, repository="p/api")]
    assert kept(tags, policy({"match": "*", "last": 1})) == {"v1", "v3"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["p/a", "p/b"]), st.text("ab12", min_size=1), st.floats(0, 100)),
        max_size=20,
    ),
    st.integers(1, 5),
)
def test_never_fewer_than_the_last_stay(items: list[tuple[str, str, float]], last: int) -> None:
    tags = list({(r, t): facts(t, day, repository=r) for r, t, day in items}.values())
    verdicts = judge(tags, policy({"match": "*", "last": last}), NOW)
    assert len(verdicts) == len(tags)
    for repository in {item.repository for item in tags}:
        mine = [item for item in verdicts if item.facts.repository == repository]
        stay = [item.facts for item in mine if item.keep]
        assert len(stay) == min(last, len(mine))
        assert all(item.facts.pushed <= min(f.pushed for f in stay) for item in mine if not item.keep)


@pytest.mark.parametrize(
    "value",
    [
        {"quota": -1}, {"immutable": ["a:"]}, {"immutable": [""]}, {"retention": [{"match": "*"}]},
        {"retention": [{"match": "*", "last": -1}]}, {"block_severity": "awful"}, {"trash_hours": -1},
    ],
)  # fmt: skip
def test_policies_that_make_no_sense_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        RegistryPolicy.parse(value)


def test_patterns_and_rules_survive_json() -> None:
    found = policy({"match": "web:v*", "last": 3, "pulled_days": 7}, immutable=["v*", "web:*"], quota=5)
    assert RegistryPolicy.parse(json.loads(json.dumps(found.to_json()))) == found
    assert found.retention == (KeepRule(TagPattern("web", "v*"), 3, 0, 7),)


async def test_retention_is_applied_and_can_be_undone(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for number in range(4):
            await server.manifest("lib/x", bytes([number]), tag=f"v{number}")
        async with server.database.session() as session:
            for number in range(4):
                moment = NOW - timedelta(days=10 - number)
                await session.execute(update(Tag).where(Tag.name == f"v{number}").values(updated=moment))
        await server.access.set_policy("lib", "registry", {"retention": [{"match": "v*", "last": 2}]})
        retention = Retention(server.database)
        judged = await retention.judge("lib")
        assert {item.facts.tag for item in judged if not item.keep} == {"v0", "v1"}
        assert await tag_names(server) == ["v0", "v1", "v2", "v3"]  # a look changes nothing
        assert await retention.run() == 2
        assert await tag_names(server) == ["v2", "v3"]
        await Trash(server.database).restore("lib/x", "v1", "tester")
        assert await tag_names(server) == ["v1", "v2", "v3"]


async def test_a_pull_is_noted_and_written_later(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.manifest("lib/x", b"one", tag="1")
        await server("GET", "/v2/lib/x/manifests/1")
        await server.registry.pulls.write()
        [verdict] = await Retention(server.database).judge("lib")
        assert verdict.facts.pulled is not None


async def test_images_without_a_tag_go_after_their_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        first = await server.manifest("lib/x", b"one", tag="1")
        child = await server.manifest("lib/x", b"child")
        index = {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [child],
        }  # fmt: skip
        kind = "application/vnd.oci.image.index.v1+json"
        answer = await server("PUT", "/v2/lib/x/manifests/i", json.dumps(index).encode(), Content_Type=kind)
        assert answer.status == 201
        await server.manifest("lib/x", b"two", tag="1")
        await server.access.set_policy("lib", "registry", {"untagged_days": 1e-9})
        await Retention(server.database).run()
        assert (await server("GET", f"/v2/lib/x/manifests/{first['digest']}")).status == 404
        assert (await server("GET", f"/v2/lib/x/manifests/{child['digest']}")).status == 200


async def test_a_robot_for_some_repositories_reaches_no_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.access.create_project("shop")
        for name in ("shop/web", "shop/web-tools", "shop/api"):
            await server.manifest(name, b"layer", tag="1")
        login, secret, _ = await server.access.create_robot(
            "shop", "ci", Role.DEVELOPER, repositories=["web*"]
        )
        word = base64.b64encode(f"{login}:{secret}".encode()).decode()
        mine = f"Basic {word}"
        assert (await server("GET", "/v2/shop/web/manifests/1", Authorization=mine)).status == 200
        assert (await server("GET", "/v2/shop/api/manifests/1", Authorization=mine)).status == 403
        assert (await server("POST", "/v2/shop/api/blobs/uploads/", Authorization=mine)).status == 403
        digest = digest_of(b"layer")
        mount = await server(
            "POST", f"/v2/shop/web/blobs/uploads/?mount={digest}&from=shop/api", Authorization=mine
        )
        assert mount.status == 202, "what it may not read it may not mount"
        names = json.loads((await server("GET", "/v2/_catalog", Authorization=mine)).body)["repositories"]
        assert [name for name in names if name.startswith("shop/")] == ["shop/web", "shop/web-tools"]
        scopes = "scope=repository:shop/web:pull,push&scope=repository:shop/api:pull"
        answer = await server("GET", f"/token?service=slipway-registry&{scopes}", Authorization=mine)
        _, grants = server.access.tokens.check(json.loads(answer.body)["token"])
        assert [grant.name for grant in grants] == ["shop/web"]
        changes = json.loads((await server("GET", "/v2/_slipway/changes", Authorization=mine)).body)[
            "changes"
        ]
        assert {item["repository"] for item in changes} == {"shop/web", "shop/web-tools"}
