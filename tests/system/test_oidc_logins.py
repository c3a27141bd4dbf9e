"""Logging in through a provider, over HTTPS: the command line, a browser, and `podman login` with a token."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from slipway.testing.oidc_provider import CLIENT, SECRET, OidcProvider
from slipway.testing.platform import Running

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]


@dataclass
class Site:
    """A platform that believes ``provider``, and a person's own place to run commands in."""

    platform: Running
    provider: OidcProvider
    address: str
    trust: Path
    home: Path

    async def slipway(self, *words: str, text: str = "", ok: bool = True) -> Any:
        """As the person, who has no access to the server's socket."""
        variables = self.platform.environment | {
            "SLIPWAY_SERVER": self.address,
            "XDG_CONFIG_HOME": str(self.home),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "slipway.cli",
            "--output", "json", *words, env=variables, stdin=-1, stdout=-1, stderr=-1,
        )  # fmt: skip
        assert process.stderr is not None
        error = b""
        if "--oidc" in words:
            error = await process.stderr.readline()
            place = re.search(rb"http\S+/agree/\w+", error)
            assert place is not None, error
            async with aiohttp.ClientSession() as session, session.get(place[0].decode()):
                pass
        out, more = await asyncio.wait_for(process.communicate(text.encode()), 60)
        assert (process.returncode == 0) == ok, out + error + more
        return json.loads(out)

    async def run(self, *words: str | Path, ok: bool = True) -> str:
        process = await asyncio.create_subprocess_exec(
            *map(str, words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _ = await asyncio.wait_for(process.communicate(), 120)
        assert (process.returncode == 0) == ok, out.decode()
        return out.decode()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    provider = OidcProvider()
    platform = Running.make(tmp_path / "platform")
    async with provider.serve() as issuer:
        platform.variables = {
            "SLIPWAY_TLS_LOCAL_CA": "on",
            "SLIPWAY_OIDC_ISSUER": issuer,
            "SLIPWAY_OIDC_CLIENT_ID": CLIENT,
            "SLIPWAY_OIDC_CLIENT_SECRET": SECRET,
            "SLIPWAY_OIDC_GROUP_ROLES": "team-a=demo:developer",
            "SLIPWAY_OIDC_ADMIN_GROUP": "ops",
        }
        await asyncio.to_thread(platform.up)
        try:
            certificate = (await asyncio.to_thread(platform.command, "tls", "ca")).stdout
            (tmp_path / "certs").mkdir()
            (tmp_path / "certs/ca.crt").write_bytes(certificate)
            address = f"https://{platform.host}"
            yield Site(platform, provider, address, tmp_path / "certs", tmp_path / "home")
        finally:
            await asyncio.to_thread(platform.down)


async def _layout(site: Site, directory: Path) -> str:
    await site.run("umoci", "init", "--layout", directory)
    await site.run("umoci", "new", "--image", f"{directory}:1")
    return f"oci:{directory}:1"


async def test_from_the_first_login_to_a_group_that_is_gone(site: Site, tmp_path: Path) -> None:
    login = ["login", site.address, "--oidc", "--ca", str(site.trust / "ca.crt")]
    site.provider.person["groups"] = ["team-a"]
    assert (await site.slipway(*login))["user"] == "ada"
    assert [item["name"] for item in await site.slipway("project", "ls")] == ["demo", "library"]
    made = await site.slipway("token", "create", "laptop", "--days", "7")
    assert made["login"] == "ada"
    assert [item["name"] for item in await site.slipway("token", "ls")] == ["laptop"]

    source, host = await _layout(site, tmp_path / "oci"), site.platform.host
    auth: list[str | Path] = ["--authfile", tmp_path / "auth.json"]
    podman: list[str | Path] = ["podman", "login", *auth, "--cert-dir", site.trust, "-u", "ada"]
    await site.run(*podman, "-p", made["secret"] + "x", host, ok=False)
    await site.run(*podman, "-p", made["secret"], host)
    copy: list[str | Path] = ["skopeo", "--insecure-policy", "copy", *auth]
    copy += ["--dest-cert-dir", site.trust, source]
    await site.run(*copy, f"docker://{host}/demo/oidc:1")

    users = await asyncio.to_thread(site.platform.json, "user", "ls")
    assert [(item["name"], item["external"]) for item in users] == [("ada", True)]
    members = await asyncio.to_thread(site.platform.json, "project", "members", "demo")
    assert [(item["user"], item["role"], item["origin"]) for item in members] == [
        ("ada", "developer", "groups")
    ]

    site.provider.person["groups"] = []
    await site.slipway("login", site.address, "--oidc")
    assert [item["name"] for item in await site.slipway("project", "ls")] == ["library"]
    await site.run(*copy, f"docker://{host}/demo/oidc:2", ok=False)
    await site.slipway("token", "rm", "laptop")
    await site.run(*podman, "-p", made["secret"], host, ok=False)
    refused = await asyncio.to_thread(
        site.platform.command, "user", "passwd", "ada", "--password-stdin", ok=False
    )
    assert refused.returncode == 1


async def test_a_browser_ends_with_a_token_for_the_command_line(site: Site) -> None:
    trusting = ssl.create_default_context(cafile=str(site.trust / "ca.crt"))
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        async with browser.get(
            f"{site.address}/api/v1/oidc/start", ssl=trusting, allow_redirects=False
        ) as answer:
            cookie = answer.headers["Set-Cookie"]
        assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/api/v1/oidc"))
        async with browser.get(f"{site.address}/api/v1/oidc/start", ssl=trusting) as answer:
            page, back = await answer.text(), str(answer.url)
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
        async with browser.get(back, ssl=trusting) as answer:
            assert answer.status == 401
    found = re.search(r"<code>(sws_[\w-]+)</code>", page)
    assert found is not None
    assert "Logged in as ada" in page
    ca = str(site.trust / "ca.crt")
    done = await site.slipway("login", site.address, "--token-stdin", "--ca", ca, text=f"{found[1]}\n")
    assert done["user"] == "ada"
    assert (await site.slipway("token", "create", "x"))["login"] == "ada"
    bad = await site.slipway("login", site.address, "--token-stdin", text="sws_x\n", ok=False)
    assert bad["kind"] == "unauthenticated"


async def test_a_token_is_no_login(site: Site) -> None:
    await site.slipway("login", site.address, "--oidc", "--ca", str(site.trust / "ca.crt"))
    secret = (await site.slipway("token", "create", "x"))["secret"]
    login = ["login", site.address, "-u", "ada", "--password-stdin"]
    assert (await site.slipway(*login, text=f"{secret}\n", ok=False))["kind"] == "denied"
    form = ["-d", "grant_type=password", "-d", "access_type=offline", "-d", "client_id=x"]
    form += ["-d", "service=slipway-registry", "-d", "username=ada", "--data-urlencode", f"password={secret}"]
    curl = await site.run("curl", "-sS", "--cacert", site.trust / "ca.crt", *form, f"{site.address}/token")
    answer = json.loads(curl)
    assert "access_token" in answer
    assert "refresh_token" not in answer
    site.platform.variables["SLIPWAY_TOKEN"] = secret
    assert [item["name"] for item in await site.slipway("token", "ls")] == ["x"]
    assert (await site.slipway("token", "create", "y", ok=False))["kind"] == "denied"
