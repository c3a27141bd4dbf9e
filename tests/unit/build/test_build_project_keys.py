"""Signing keys: one for each project and site, wherever it was made first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from sqlalchemy import select

from slipway.access import Vault
from slipway.build.attest.project_keys import ProjectKeys
from slipway.build.attest.signing import new_key, public_pem
from slipway.errors import Invalid
from slipway.state import Database
from slipway.state.tables import SigningKey


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database.sqlite(tmp_path / "state.db")
    await found.migrate()
    yield found
    await found.dispose()


def _filed(directory: Path, project: str) -> bytes:
    """A key as earlier versions kept it; its public half."""
    directory.mkdir(exist_ok=True)
    made = new_key()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / f"{project}.pem").write_bytes(made.private_bytes(*form))
    return public_pem(made.public_key())


async def test_servers_that_make_a_key_at_once_have_the_same(database: Database, tmp_path: Path) -> None:
    servers = [ProjectKeys(database, Vault(tmp_path / "keys")) for _ in range(4)]
    assert await servers[0].find("demo") is None  # looking makes none
    found = await asyncio.gather(*(server.public("demo") for server in servers))
    assert len(set(found)) == 1
    assert await servers[0].public("other") not in found


async def test_keys_of_earlier_versions_are_taken_over(database: Database, tmp_path: Path) -> None:
    wanted = _filed(tmp_path / "signing", "demo")
    keys = ProjectKeys(database, Vault(tmp_path / "keys"), tmp_path / "signing")
    await keys.take_over()
    elsewhere = ProjectKeys(database, Vault(tmp_path / "keys"))
    assert await elsewhere.public("demo") == wanted
    # What is in the database wins from now on.
    _filed(tmp_path / "signing", "demo")
    again = ProjectKeys(database, Vault(tmp_path / "keys"), tmp_path / "signing")
    await again.take_over()
    assert await again.public("demo") == wanted


async def test_the_database_alone_tells_no_key(database: Database, tmp_path: Path) -> None:
    await ProjectKeys(database, Vault(tmp_path / "keys")).of("demo")
    async with database.read() as session:
        row = (await session.scalars(select(SigningKey))).one()
    assert "PRIVATE KEY" not in row.sealed
    with pytest.raises(Invalid, match="another key"):
        await ProjectKeys(database, Vault(tmp_path / "others")).of("demo")
