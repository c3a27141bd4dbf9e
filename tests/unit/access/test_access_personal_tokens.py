"""Personal tokens: in the password's place, and no more than that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from slipway.access import SYSTEM, Access, Permission, Role
from slipway.access.personal_tokens import MAX_TOKENS
from slipway.base.clock import now
from slipway.errors import Conflict, Denied, Exhausted, Invalid, NotFound, Unauthenticated
from slipway.state import Database
from slipway.state.tables import User

PASSWORD = "correct horse"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database.sqlite(tmp_path / "state.db")
    await found.migrate()
    yield found
    await found.dispose()


@pytest.fixture
async def access(database: Database, tmp_path: Path) -> Access:
    found = Access(database, tmp_path / "keys")
    for name in ("ada", "bob"):
        await found.create_user(name, PASSWORD)
    await found.create_project("demo")
    await found.set_member("demo", "ada", Role.DEVELOPER)
    return found


async def test_a_token_stands_for_its_users_password(access: Access) -> None:
    ada = await access.authenticate("ada", PASSWORD)
    secret, expires = await access.personal_tokens.create(ada, "laptop")
    assert expires is not None
    for found in (await access.authenticate("ada", secret), await access.check_session(secret)):
        assert (found.name, found.by_token) == ("ada", True)
        assert Permission.PUSH in await access.permissions(found, "demo")
    with pytest.raises(Unauthenticated):
        await access.authenticate("bob", secret)
    with pytest.raises(Unauthenticated):
        await access.authenticate("ada", secret + "x")
    assert [item.name for item in await access.personal_tokens.list("ada")] == ["laptop"]
    await access.personal_tokens.delete("ada", "laptop")
    with pytest.raises(Unauthenticated):
        await access.authenticate("ada", secret)
    with pytest.raises(NotFound):
        await access.personal_tokens.delete("ada", "laptop")


async def test_a_token_opens_nothing_that_outlives_it(access: Access) -> None:
    ada = await access.authenticate("ada", PASSWORD)
    secret, _ = await access.personal_tokens.create(ada, "laptop")
    by_token = await access.authenticate("ada", secret)
    with pytest.raises(Denied):
        await access.personal_tokens.create(by_token, "another")
    with pytest.raises(Denied):
        await access.open_session(by_token)
    with pytest.raises(Denied):
        await access.personal_tokens.create(SYSTEM, "roots")
    name, robot, _ = await access.create_robot("demo", "ci", Role.DEVELOPER)
    with pytest.raises(Denied):
        await access.personal_tokens.create(await access.authenticate(name, robot), "x")


async def test_tokens_expire_and_go_with_their_user(access: Access) -> None:
    ada = await access.authenticate("ada", PASSWORD)
    late, _ = await access.personal_tokens.create(ada, "late", timedelta(seconds=-1))
    with pytest.raises(Unauthenticated, match="expired"):
        await access.authenticate("ada", late)
    forever, expires = await access.personal_tokens.create(ada, "forever", None)
    assert expires is None
    await access.delete_user("ada")
    with pytest.raises(Unauthenticated):
        await access.check_session(forever)


async def test_names_are_unique_for_each_user_and_bounded(access: Access) -> None:
    ada, bob = [await access.authenticate(name, PASSWORD) for name in ("ada", "bob")]
    await access.personal_tokens.create(ada, "laptop")
    await access.personal_tokens.create(bob, "laptop")
    with pytest.raises(Conflict):
        await access.personal_tokens.create(ada, "laptop")
    for bad in ("", "a/b", " a", "é", "a" * 81, "a\nb"):
        with pytest.raises(Invalid):
            await access.personal_tokens.create(ada, bad)
    for number in range(MAX_TOKENS - 1):
        await access.personal_tokens.create(ada, str(number))
    with pytest.raises(Exhausted):
        await access.personal_tokens.create(ada, "one more")


async def test_external_users_tokens_rest_until_the_next_login(access: Access, database: Database) -> None:
    ada = await access.authenticate("ada", PASSWORD)
    secret, _ = await access.personal_tokens.create(ada, "laptop", None)
    for until, works in ((None, False), (now() - timedelta(1), False), (now() + timedelta(1), True)):
        async with database.session() as session:
            row = update(User).where(User.name == "ada")
            await session.execute(row.values(external_issuer="i", external_subject="s", external_until=until))
        if works:
            assert (await access.authenticate("ada", secret)).name == "ada"
        else:
            with pytest.raises(Unauthenticated, match="has not logged in"):
                await access.authenticate("ada", secret)


async def test_a_disabled_users_token_is_refused(access: Access, database: Database) -> None:
    secret, _ = await access.personal_tokens.create(await access.authenticate("ada", PASSWORD), "laptop")
    async with database.session() as session:
        await session.execute(update(User).values(disabled=True))
    with pytest.raises(Unauthenticated):
        await access.authenticate("ada", secret)
