"""The provider's settings: whole, or refused with the name of what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.access import Access
from slipway.app.oidc import oidc_of
from slipway.app.settings import load
from slipway.app.tls import is_loopback
from slipway.errors import Invalid
from slipway.state import Database

ISSUER = "oidc.issuer=https://provider.example"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database.sqlite(tmp_path / "state.db")
    yield found
    await found.dispose()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([ISSUER], "client_id"),
        (["oidc.issuer=http://provider.example", "oidc.client_id=x"], "https"),
        ([ISSUER, "oidc.client_id=x", "oidc.group_roles=a=b"], "GROUP=PROJECT:ROLE"),
        ([ISSUER, "oidc.client_id=x", "oidc.group_roles=a=b:boss"], "not a role"),
        ([ISSUER, "oidc.client_id=x", "oidc.ca=/nowhere"], "oidc.ca"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, database: Database, flags: list[str], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        oidc_of(load(None, {"SLIPWAY_DATA": str(tmp_path)}, flags), Access(database, tmp_path), database)


def test_no_provider_and_a_whole_one(tmp_path: Path, database: Database) -> None:
    access = Access(database, tmp_path)
    assert oidc_of(load(None, {}), access, database) is None
    file = tmp_path / "slipway.toml"
    file.write_text(
        f'data = "{tmp_path}"\n[oidc]\nissuer = "https://provider.example"\nclient_id = "x"\n'
        'client_secret = "y"\ngroup_roles = ["team-a=demo:developer", "ops=demo:admin"]\n'
    )
    assert oidc_of(load(file, {}), access, database) is not None


def test_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1:1", "[::1]:1", "localhost:1", "127.1.2.3:1")))
    assert not any(map(is_loopback, ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "host.example:1")))
