"""Browser logins against a provider that somebody else wrote (oidc-provider-mock, on Authlib)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from slipway.access import Access, Permission
from slipway.access.oidc import Done, OidcConfig, OidcLogins, Provider, parse_group_roles
from slipway.errors import Denied, Unauthenticated, Unsupported
from slipway.state import Database
from slipway.testing.platform import free_port

CALLBACK = "http://localhost:7070/api/v1/oidc/callback"


@dataclass
class Standard:
    """The provider's process, and how a person uses it."""

    issuer: str
    http: aiohttp.ClientSession

    async def register(self) -> tuple[str, str]:
        async with self.http.post(
            f"{self.issuer}/oauth2/clients", json={"redirect_uris": [CALLBACK]}
        ) as answer:
            found = await answer.json()
        return found["client_id"], found["client_secret"]

    async def person(self, subject: str, **claims: Any) -> None:
        async with self.http.put(f"{self.issuer}/users/{subject}", json=claims) as answer:
            assert answer.status == 204

    async def agree(self, url: str, **form: str) -> dict[str, str]:
        """Fill in the form at ``url``; what the browser is sent back with."""
        async with self.http.post(url, data=form, allow_redirects=False) as answer:
            place = urlsplit(answer.headers["Location"])
        return {name: values[0] for name, values in parse_qs(place.query).items()}


@pytest.fixture
async def standard() -> AsyncIterator[Standard]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-registration", "--require-nonce",
        env=os.environ | {"PYTHONWARNINGS": "ignore"}, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    issuer = f"http://localhost:{port}"
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(600):
                try:
                    async with http.get(f"{issuer}/jwks"):
                        break
                except aiohttp.ClientError:
                    assert process.returncode is None
                    await asyncio.sleep(0.1)
            yield Standard(issuer, http)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def access(tmp_path: Path) -> AsyncIterator[tuple[Access, Database]]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    found = Access(database, tmp_path / "keys")
    await found.create_project("demo")
    yield found, database
    await database.dispose()


async def test_a_browser_login_at_a_standard_provider(
    standard: Standard, access: tuple[Access, Database], tmp_path: Path
) -> None:
    accounts, database = access
    client, secret = await standard.register()
    roles = parse_group_roles(["team-a=demo:developer"])
    config = OidcConfig(standard.issuer, client, secret, group_roles=roles)
    logins = OidcLogins(accounts, database, Provider(config), tmp_path / "keys")

    async def login() -> Done:
        url, sealed = await logins.start_browser(CALLBACK)
        return await logins.finish_browser(sealed, await standard.agree(url, sub="7"))

    await standard.person("7", preferred_username="Ada", groups=["team-a", "others"])
    done = await login()
    ada = await accounts.check_session(done.token)
    assert ada.name == "ada"
    assert Permission.PUSH in await accounts.permissions(ada, "demo")
    await standard.person("7", preferred_username="Ada", groups=["others"])
    await login()
    assert await accounts.permissions(ada, "demo") == frozenset()

    url, sealed = await logins.start_browser(CALLBACK)
    with pytest.raises(Denied):
        await logins.finish_browser(sealed, await standard.agree(url, action="deny") | _state(url))
    with pytest.raises(Unsupported):
        await logins.start_device()
    wrong = OidcConfig(standard.issuer, client, "wrong")
    strange = OidcLogins(accounts, database, Provider(wrong), tmp_path / "keys")
    url, sealed = await strange.start_browser(CALLBACK)
    with pytest.raises(Unauthenticated, match="invalid_client"):
        await strange.finish_browser(sealed, await standard.agree(url, sub="7"))


def _state(url: str) -> dict[str, str]:
    """This provider forgets the state when it says no."""
    return {"state": parse_qs(urlsplit(url).query)["state"][0]}
