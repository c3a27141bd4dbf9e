"""Who may do what, against a real SQLite database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from sqlalchemy import select

from slipway.access import SYSTEM, Access, Grant, Permission, RegistryTokens, Role
from slipway.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from slipway.state import Database
from slipway.state.tables import LoginSession

PASSWORD = "correct horse"


@pytest.fixture
async def access(tmp_path: Path) -> AsyncIterator[Access]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    await database.migrate()
    yield Access(database, tmp_path / "keys")
    await database.dispose()


async def test_logins_that_are_over_do_not_pile_up(access: Access) -> None:
    for name in ("ada", "bob"):
        await access.create_user(name, PASSWORD)
        who = await access.authenticate(name, PASSWORD)
        for _ in range(3):
            await access.open_session(who, lifetime=timedelta(seconds=-1))
    token, _ = await access.open_session(await access.authenticate("ada", PASSWORD))
    async with access._database.read() as session:
        left = list(await session.scalars(select(LoginSession.user_id)))
    assert len(left) == 2, "one of ada's, and bob's last"
    assert (await access.check_session(token)).name == "ada"


async def test_roles_decide_what_members_may_do(access: Access) -> None:
    await access.create_project("demo")
    for name, role in (("ada", Role.ADMIN), ("dev", Role.DEVELOPER), ("gus", Role.GUEST)):
        await access.create_user(name, PASSWORD)
        await access.set_member("demo", name, role)
    await access.create_user("eve", PASSWORD)
    ada, dev, gus, eve = [await access.authenticate(name, PASSWORD) for name in ("ada", "dev", "gus", "eve")]

    await access.require(ada, "demo", Permission.MANAGE)
    await access.require(dev, "demo", Permission.PUSH)
    with pytest.raises(Denied):
        await access.require(dev, "demo", Permission.MANAGE)
    await access.require(gus, "demo", Permission.PULL)
    with pytest.raises(Denied):
        await access.require(gus, "demo", Permission.PUSH)
    with pytest.raises(NotFound):
        await access.require(eve, "demo", Permission.PULL)
    assert [project.name for project in await access.projects(eve)] == []
    assert [project.name for project in await access.projects(gus)] == ["demo"]
    assert await access.permissions(SYSTEM, "demo") == frozenset(Permission)


async def test_a_public_project_can_be_pulled_by_all(access: Access) -> None:
    await access.create_project("open", public=True)
    await access.create_user("eve", PASSWORD)
    eve = await access.authenticate("eve", PASSWORD)
    assert await access.permissions(eve, "open") == {Permission.VIEW, Permission.PULL}


async def test_wrong_passwords_and_unknown_names_look_alike(access: Access) -> None:
    await access.create_user("ada", PASSWORD)
    messages = set()
    for name, secret in (("ada", "wrong"), ("nobody", PASSWORD)):
        with pytest.raises(Unauthenticated) as caught:
            await access.authenticate(name, secret)
        messages.add(caught.value.message)
    assert len(messages) == 1


async def test_robots_are_bound_to_their_project_and_expire(access: Access) -> None:
    await access.create_project("demo")
    await access.create_project("other")
    name, secret, _ = await access.create_robot("demo", "ci", Role.DEVELOPER)
    robot = await access.authenticate(name, secret)
    assert Permission.PUSH in await access.permissions(robot, "demo")
    assert await access.permissions(robot, "other") == frozenset()
    with pytest.raises(Unauthenticated):
        await access.authenticate(name, secret + "x")
    late, secret, _ = await access.create_robot("demo", "late", Role.GUEST, timedelta(seconds=-1))
    with pytest.raises(Unauthenticated, match="expired"):
        await access.authenticate(late, secret)
    await access.delete_robot("demo", "ci")
    assert [entry.name for entry in await access.robots("demo")] == ["late"]


async def test_logins_end_with_the_password(access: Access) -> None:
    await access.create_user("ada", PASSWORD)
    token, _ = await access.open_session(await access.authenticate("ada", PASSWORD))
    assert (await access.check_session(token)).name == "ada"
    await access.set_password("ada", PASSWORD + "2")
    with pytest.raises(Unauthenticated):
        await access.check_session(token)


async def test_names_and_passwords_are_checked(access: Access) -> None:
    for bad in ("", "Ada", "../x", "a" * 41, "-a"):
        with pytest.raises(Invalid):
            await access.create_project(bad)
    with pytest.raises(Invalid, match="characters"):
        await access.create_user("ada", "short")
    await access.create_project("demo")
    with pytest.raises(Conflict):
        await access.create_project("demo")
    with pytest.raises(NotFound):
        await access.set_member("demo", "nobody", Role.GUEST)


def test_registry_tokens_refuse_what_they_did_not_sign(tmp_path: Path) -> None:
    tokens = RegistryTokens(tmp_path, "registry")
    grant = Grant("repository", "demo/web", frozenset({"pull"}))
    subject, grants = tokens.check(tokens.issue("ada", [grant]))
    assert (subject, grants) == ("ada", (grant,))
    claims = jwt.decode(tokens.issue("ada", [grant]), options={"verify_signature": False})
    stranger = RegistryTokens(tmp_path / "other", "registry")
    forged = (
        tokens.issue("ada", [grant], lifetime=-60),
        stranger.issue("ada", [grant]),
        RegistryTokens(tmp_path, "elsewhere").issue("ada", [grant]),
        jwt.encode(claims, "", "none"),
        jwt.encode(claims, "x" * 32, "HS256"),
        "not.a.token",
        "",
    )
    for token in forged:
        with pytest.raises(Unauthenticated):
            tokens.check(token)


def test_a_token_that_was_checked_before_expires_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = RegistryTokens(tmp_path, "registry")
    token = tokens.issue("ada", [Grant("repository", "demo/web", frozenset({"pull"}))], lifetime=60)
    first, began = tokens.check(token), time.time()
    assert tokens.check(token) == first
    with pytest.raises(Unauthenticated):
        tokens.check(token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    monkeypatch.setattr(time, "time", lambda: began + 61)
    # PyJWT has a clock of its own; it is asked again.
    monkeypatch.setattr(jwt, "decode", _expired)
    with pytest.raises(Unauthenticated):
        tokens.check(token)


def test_tokens_that_are_remembered_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.access.tokens._REMEMBERED", 3)
    tokens = RegistryTokens(tmp_path, "registry")
    for _ in range(5):
        assert tokens.check(tokens.issue("ada", []))[0] == "ada"
    assert len(tokens._checked) == 3


def _expired(*_arguments: object, **_options: object) -> None:
    raise jwt.ExpiredSignatureError


def test_servers_that_begin_at_once_sign_with_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RegistryTokens(tmp_path / "keys", "registry"), range(8)))
    token = made[0].issue("ann", [])
    assert {item.check(token)[0] for item in made} == {"ann"}
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["registry-token.pem"]
