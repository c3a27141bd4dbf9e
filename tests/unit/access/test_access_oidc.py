"""Logins through a provider that signs real tokens, and through one that cheats."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select, update

from slipway.access import Access, Permission, Role
from slipway.access.oidc import Done, OidcConfig, OidcLogins, Provider, Waiting, parse_group_roles
from slipway.access.oidc.idtokens import parse_keys
from slipway.access.oidc.provider import KEYS_AGAIN
from slipway.errors import Conflict, Denied, Invalid, SlipwayError, Unauthenticated, Unavailable, Unsupported
from slipway.state import Database
from slipway.state.tables import AuditEvent, User
from slipway.testing.oidc_provider import CLIENT, SECRET, Cheat, OidcProvider

PASSWORD = "correct horse"
CALLBACK = "http://127.0.0.1:7070/api/v1/oidc/callback"
ROLES = ("team-a=demo:developer", "ops=demo:admin", "team-a=other:guest", "team-b=nowhere:guest")


@dataclass
class World:
    """A provider, and a server that believes it."""

    provider: OidcProvider
    database: Database
    access: Access
    config: OidcConfig
    keys: Path
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.logins = self.make()

    def make(self, **changes: Any) -> OidcLogins:
        self.config = replace(self.config, **changes)
        found = Provider(self.config, lambda: self.seconds)
        self.logins = OidcLogins(self.access, self.database, found, self.keys)
        return self.logins

    async def login(self, **person: Any) -> Done:
        """By device, as the provider's only person."""
        self.provider.person |= person
        begun = await self.logins.start_device()
        async with aiohttp.ClientSession() as session, session.get(begun.verification_uri):
            pass
        found = await self.logins.poll_device(begun.device_code)
        assert isinstance(found, Done)
        return found

    async def may(self, name: str, project: str) -> frozenset[Permission]:
        return await self.access.permissions(await self.access.identity_of(name), project)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    for project in ("demo", "other"):
        await access.create_project(project)
    provider = OidcProvider()
    async with provider.serve() as issuer:
        config = OidcConfig(
            issuer, CLIENT, SECRET, admin_group="admins", group_roles=parse_group_roles(ROLES)
        )
        yield World(provider, database, access, config, tmp_path / "keys")
    await database.dispose()


# Who somebody is here


async def test_groups_of_now_are_roles_of_now(world: World) -> None:
    done = await world.login(groups=["team-a", "unrelated"])
    assert done.name == "ada"
    assert Permission.PUSH in await world.may("ada", "demo")
    assert await world.may("ada", "other") == {Permission.VIEW, Permission.PULL}
    ada = await world.access.check_session(done.token)
    assert [project.name for project in await world.access.projects(ada)] == ["demo", "other"]
    assert [(item.user, item.role, item.origin) for item in await world.access.members("demo")] == [
        ("ada", Role.DEVELOPER, "groups")
    ]
    await world.login(groups=["team-a", "ops"])
    assert Permission.MANAGE in await world.may("ada", "demo")
    await world.access.set_member("demo", "ada", Role.GUEST)
    await world.login(groups=[])
    assert await world.may("ada", "demo") == {Permission.VIEW, Permission.PULL}
    assert await world.may("ada", "other") == frozenset()
    assert [(item.role, item.origin) for item in await world.access.members("demo")] == [(Role.GUEST, "hand")]


async def test_administrators_are_those_of_the_group_now(world: World) -> None:
    first = await world.login(groups=["admins"])
    assert (await world.access.check_session(first.token)).is_admin
    await world.login(groups=None)
    assert not (await world.access.check_session(first.token)).is_admin
    world.make(admin_group="")
    await world.login(groups=[""])
    assert not (await world.access.check_session(first.token)).is_admin


async def test_a_name_is_only_its_first_owners(world: World) -> None:
    await world.access.create_user("ada", PASSWORD, is_admin=True)
    with pytest.raises(Conflict, match="somebody else"):
        await world.login()
    await world.login(sub="2", preferred_username="bob")
    with pytest.raises(Conflict, match="somebody else"):
        await world.login(sub="3", preferred_username="bob")
    assert (await world.login(sub="2", preferred_username="robert")).name == "bob"
    with pytest.raises(Conflict, match="logs in at"):
        await world.access.set_password("bob", PASSWORD)
    for secret in ("", PASSWORD):
        with pytest.raises(Unauthenticated):
            await world.access.authenticate("bob", secret)


async def test_the_same_subject_of_another_issuer_is_somebody_else(world: World) -> None:
    await world.login()
    async with world.database.session() as session:
        await session.execute(update(User).values(external_issuer="https://other.example"))
    with pytest.raises(Conflict):
        await world.login()


async def test_a_disabled_user_stays_out(world: World) -> None:
    await world.login()
    async with world.database.session() as session:
        await session.execute(update(User).values(disabled=True))
    with pytest.raises(Denied, match="disabled"):
        await world.login()


@pytest.mark.parametrize(
    ("given", "name"),
    [("Ada.Lovelace", "ada-lovelace"), ("ada@example.com", "ada-example-com"), ("_ada_", "ada")],
)
async def test_names_are_made_to_fit(world: World, given: str, name: str) -> None:
    assert (await world.login(preferred_username=given)).name == name


@pytest.mark.parametrize(
    "given", ["", "root", "Anonymous", "ü", "a/b", "robot$demo+ci", "a" * 41, 7, None, ["a"]]
)
async def test_names_that_cannot_be_are_refused(world: World, given: Any) -> None:
    with pytest.raises(Denied):
        await world.login(preferred_username=given)
    assert await world.access.users() == []


@pytest.mark.parametrize("groups", [{"a": 1}, [1], ["a"] * 5001, 7])
async def test_groups_that_are_none_are_refused(world: World, groups: Any) -> None:
    with pytest.raises(Denied, match="groups"):
        await world.login(groups=groups)


async def test_claims_may_lie_deeper_or_in_userinfo(world: World) -> None:
    world.make(username_claim="login", groups_claim="realm_access.roles")
    world.provider.in_userinfo = {"login": "carl", "realm_access": {"roles": ["team-a"]}}
    assert (await world.login()).name == "carl"
    assert Permission.PUSH in await world.may("carl", "demo")
    world.provider.in_userinfo["sub"] = "another"
    with pytest.raises(Unauthenticated, match="somebody else"):
        await world.login()


# The provider's tokens


def _other(audience: Any = CLIENT, **values: Any) -> Cheat:
    return lambda provider, claims: provider.sign({**claims, "aud": audience, **values})


def _without(name: str) -> Cheat:
    return lambda provider, claims: provider.sign({key: claims[key] for key in claims if key != name})


def _signed_by_another(provider: OidcProvider, claims: dict[str, Any]) -> str:
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims, key, "RS256", headers={"kid": provider.kid})


def _with_its_own_key(provider: OidcProvider, claims: dict[str, Any]) -> str:
    key = rsa.generate_private_key(65537, 2048)
    public = jwt.get_algorithm_by_name("RS256").to_jwk(key.public_key(), as_dict=True)
    return jwt.encode(claims, key, "RS256", headers={"kid": "mine", "jwk": public})


def _elliptic(provider: OidcProvider, claims: dict[str, Any]) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, key, "ES256", headers={"kid": provider.kid})


CHEATS: dict[str, Cheat] = {
    "wrong audience": _other("somebody-else"),
    "no audience": _without("aud"),
    "several audiences, no azp": _other([CLIENT, "somebody-else"]),
    "azp of another": _other([CLIENT, "somebody-else"], azp="somebody-else"),
    "azp of another, one audience": _other(azp="somebody-else"),
    "other issuer": _other(iss="https://other.example"),
    "issuer with a slash more": lambda p, claims: p.sign({**claims, "iss": claims["iss"] + "/"}),
    "no issuer": _without("iss"),
    "expired": _other(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600),
    "never expires": _without("exp"),
    "from the future": _other(iat=int(time.time()) + 3600, exp=int(time.time()) + 7200),
    "not yet valid": _other(nbf=int(time.time()) + 3600),
    "no subject": _without("sub"),
    "empty subject": _other(sub=""),
    "alg none": lambda p, claims: jwt.encode(claims, "", "none", headers={"kid": p.kid}),
    "alg none, no kid": lambda p, claims: jwt.encode(claims, "", "none"),
    "HS256 with the public key": lambda p, claims: p.confuse(claims),
    "HS256 with the client secret": lambda p, claims: jwt.encode(
        claims, SECRET * 3, "HS256", headers={"kid": p.kid}
    ),
    "signed by another key": _signed_by_another,
    "brings its own key": _with_its_own_key,
    "unknown kid": lambda p, claims: p.sign(claims, kid="nobody"),
    "another algorithm of the same key": lambda p, claims: jwt.encode(
        claims, p.key, "PS256", headers={"kid": p.kid}
    ),
    "another kind of key": _elliptic,
    "critical header": lambda p, claims: p.sign(claims, crit=["exp"]),
    "changed after signing": lambda p, claims: p.sign(claims)[:-8] + "AAAAAAAA",
    "no token at all": lambda p, claims: "",
    "not a token": lambda p, claims: "a.b.c",
    "very long": lambda p, claims: p.sign({**claims, "x": "x" * 70000}),
}


@pytest.mark.parametrize("name", CHEATS)
async def test_a_cheating_provider_is_refused(world: World, name: str) -> None:
    world.provider.cheat = CHEATS[name]
    with pytest.raises(Unauthenticated):
        await world.login()
    assert await world.access.users() == []
    async with world.database.read() as session:
        event = (await session.scalars(select(AuditEvent))).one()
    assert (event.action, event.allowed, event.detail["issuer"]) == ("login", False, world.provider.issuer)
    world.provider.cheat = None
    assert (await world.login()).name == "ada"


async def test_several_audiences_with_our_azp_are_fine(world: World) -> None:
    world.provider.cheat = _other([CLIENT, "somebody-else"], azp=CLIENT)
    assert (await world.login()).name == "ada"


async def test_rotated_keys_are_found_and_old_ones_refused(world: World) -> None:
    await world.login()
    old = OidcProvider()
    old.key, old.kid, old.issuer = world.provider.key, world.provider.kid, world.provider.issuer
    world.provider.rotate("ES256")
    with pytest.raises(Unauthenticated, match="has no key"):
        await world.login()
    assert world.provider.key_requests == 1, "unknown keys must not make us ask again and again"
    world.seconds += KEYS_AGAIN + 1
    await world.login()
    assert world.provider.key_requests == 2
    await world.login()
    assert world.provider.key_requests == 2
    world.provider.cheat = lambda _provider, claims: old.sign(claims)
    with pytest.raises(Unauthenticated):
        await world.login()


async def test_rotation_is_found_where_keys_have_no_names(world: World) -> None:
    world.provider.named = False
    await world.login()
    world.provider.rotate()
    with pytest.raises(Unauthenticated):
        await world.login()
    world.seconds += KEYS_AGAIN + 1
    await world.login()
    assert world.provider.key_requests == 2


def test_keys_that_are_not_for_this_are_passed_over() -> None:
    provider = OidcProvider()
    good = provider.jwks()["keys"][0]
    weak: Any = jwt.get_algorithm_by_name("RS256")
    short = json.loads(weak.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    bad = [
        {**good, "use": "enc"},
        {**good, "alg": "HS256"},
        {**good, "alg": "none"},
        {**good, "alg": "ES256"},
        {**good, "n": "%%"},
        {"kty": "oct", "k": secrets.token_hex(), "alg": "HS256"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {**short, "kid": "short"},
        "no key",
        {},
    ]
    assert parse_keys({"keys": bad}) == ()
    assert [key.algorithms for key in parse_keys({"keys": [*bad, good]})] == [("RS256",)]
    nothing: list[Any] = [None, [], {}, {"keys": "x"}]
    for document in nothing:
        assert parse_keys(document) == ()


# The provider itself


async def test_the_provider_must_be_the_one_that_was_named(world: World) -> None:
    world.provider.extra = {"issuer": "https://other.example"}
    with pytest.raises(Unavailable, match="calls itself"):
        await world.login()


@pytest.mark.parametrize("url", ["http://provider.example", "ftp://x", "provider.example", "https://[", ""])
def test_the_provider_is_reached_over_https(url: str) -> None:
    with pytest.raises(Invalid, match="address"):
        OidcConfig(url, CLIENT)


async def test_endpoints_over_plain_http_are_refused(world: World) -> None:
    world.provider.extra = {"token_endpoint": "http://provider.example/token"}
    with pytest.raises(Invalid, match="https"):
        await world.login()


async def test_a_provider_that_is_away_or_talks_nonsense(world: World) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await world.make(issuer="http://127.0.0.1:1").start_device()
    with pytest.raises(Unavailable, match="404"):
        await world.make(issuer=world.provider.issuer + "/elsewhere").start_device()


# The two ways


async def test_a_device_login_waits_and_can_be_refused(world: World) -> None:
    begun = await world.logins.start_device()
    assert isinstance(await world.logins.poll_device(begun.device_code), Waiting)
    async with aiohttp.ClientSession() as session, session.get(begun.verification_uri + "?no"):
        pass
    with pytest.raises(Denied):
        await world.logins.poll_device(begun.device_code)
    with pytest.raises(Unauthenticated, match="too old"):
        await world.logins.poll_device("made up")


async def test_a_provider_without_devices_is_said(world: World) -> None:
    world.provider.extra = {"device_authorization_endpoint": None}
    with pytest.raises(Unsupported):
        await world.logins.start_device()


async def test_a_wrong_client_secret_is_said(world: World) -> None:
    with pytest.raises(Denied, match="invalid_client"):
        await world.make(client_secret="wrong").start_device()


@pytest.mark.parametrize(
    ("offered", "used"),
    [
        (None, "client_secret_basic"),
        (["client_secret_basic"], "client_secret_basic"),
        (["client_secret_post"], "client_secret_post"),
        # Our secret has characters that a header has to encode, which not every provider decodes.
        (["client_secret_basic", "client_secret_post"], "client_secret_post"),
    ],
)
async def test_the_client_says_who_it_is_as_the_provider_wants(
    world: World, offered: list[str] | None, used: str
) -> None:
    world.provider.extra = {"token_endpoint_auth_methods_supported": offered}
    await world.login()
    assert world.provider.authenticated == used


async def _browse(world: World) -> tuple[str, dict[str, str]]:
    """What the browser keeps, and what it comes back with."""
    url, sealed = await world.logins.start_browser(CALLBACK)
    async with aiohttp.ClientSession() as session:
        async with session.get(url, allow_redirects=False) as answer:
            place = urlsplit(answer.headers["Location"])
    assert place._replace(query="").geturl() == CALLBACK
    return sealed, {name: values[0] for name, values in parse_qs(place.query).items()}


async def test_a_browser_login(world: World) -> None:
    sealed, query = await _browse(world)
    done = await world.logins.finish_browser(sealed, query)
    assert done.name == "ada"
    lifetime = done.expires - (await world.access.users())[0].created
    assert lifetime < timedelta(hours=13)
    with pytest.raises(Unauthenticated, match="invalid_grant"):
        await world.logins.finish_browser(sealed, query)


async def test_another_browser_cannot_finish_a_login(world: World) -> None:
    sealed, query = await _browse(world)
    other, theirs = await _browse(world)
    for kept, given in (
        (other, query),
        ("", query),
        (sealed[:-4] + "AAA=", query),
        (sealed, {**query, "state": ""}),
        (sealed, {**query, "iss": "https://other.example"}),
        (sealed, {"error": "access_denied", "state": theirs["state"]}),
        (sealed, {**query, "code": theirs["code"]}),
    ):
        with pytest.raises(Unauthenticated):
            await world.logins.finish_browser(kept, given)
    with pytest.raises(Denied):
        await world.logins.finish_browser(sealed, {"error": "access_denied", "state": query["state"]})


@pytest.mark.parametrize("nonce", [None, "", "made up"])
async def test_the_token_must_be_of_this_login(world: World, nonce: str | None) -> None:
    world.provider.cheat = lambda provider, claims: provider.sign({**claims, "nonce": nonce})
    sealed, query = await _browse(world)
    with pytest.raises(Unauthenticated, match="nonce"):
        await world.logins.finish_browser(sealed, query)


def test_group_roles_are_read_or_refused() -> None:
    assert parse_group_roles(["a=b:guest", "/x=y=c:admin"]) == (
        ("a", "b", Role.GUEST),
        ("/x=y", "c", Role.ADMIN),
    )
    for bad in ("a", "a=b", "a=b:boss", "=b:guest", "a=:guest"):
        with pytest.raises(ValueError, match=r"role|GROUP"):
            parse_group_roles([bad])


async def test_refusals_are_said_as_errors_of_ours(world: World) -> None:
    """Whatever a provider answers, it comes out as one of our kinds."""
    extras: list[dict[str, Any]] = [
        {"jwks_uri": None},
        {"token_endpoint": 7},
        {"userinfo_endpoint": []},
        {"scopes_supported": 1},
        {"token_endpoint_auth_methods_supported": 7},
    ]
    for extra in extras:
        world.provider.extra = extra
        world.make()
        try:
            await world.login()
        except SlipwayError:
            continue
