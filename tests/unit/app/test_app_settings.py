"""Settings come from the table, in the documented order, and nothing unknown passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.app.settings import SETTINGS, load
from slipway.errors import Invalid


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "slipway.toml"
    file.write_text('listen = "127.0.0.1:1"\n[apps]\nlisten = "127.0.0.1:2"\n[build]\nparallel = 7\n')
    environment = {"SLIPWAY_LISTEN": "127.0.0.1:3", "SLIPWAY_APPS_LISTEN": "127.0.0.1:4"}
    found = load(file, environment, ["listen=127.0.0.1:5"])
    assert (found["listen"], found["apps.listen"], found["build.parallel"]) == (
        "127.0.0.1:5",
        "127.0.0.1:4",
        7,
    )
    assert found["build.memory"] == 4 << 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listne = 'x'", "did you mean 'listen'"),
        ("[build]\nmemory = 'lots'", "build.memory"),
        ("listen = '7070'", "HOST:PORT"),
        ("data = 'relative'", "absolute"),
        ("listen = ", "TOML"),
        ("[build]\nparallel = 0", "above 0"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "slipway.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        load(file, {})
    assert message in str(caught.value)


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not exist"):
        load(tmp_path / "none.toml", {})


@given(st.lists(st.text(max_size=30), max_size=4))
def test_any_flags_give_settings_or_a_clear_error(flags: list[str]) -> None:
    try:
        found = load(None, {}, flags)
    except Invalid:
        return
    assert set(found.values) == {setting.name for setting in SETTINGS}


@pytest.mark.parametrize("name", ["database.url", "storage.url"])
def test_addresses_of_shared_stores_are_checked(name: str) -> None:
    with pytest.raises(Invalid, match="an address is"):
        load(None, {}, [f"{name}=file:///x"])


def test_a_password_is_not_said() -> None:
    with pytest.raises(Invalid) as caught:
        load(None, {"SLIPWAY_DATABASE_URL": "mysql://me:hidden@host/x"})
    assert "hidden" not in str(caught.value)
    found = load(None, {"SLIPWAY_DATABASE_URL": "postgresql://me:hidden@host/x"})
    assert found["database.url"] == "postgresql+asyncpg://me:hidden@host/x"


def test_keys_are_below_the_data_unless_said() -> None:
    assert load(None, {}, ["data=/d"]).keys == Path("/d/keys")
    assert load(None, {}, ["data=/d", "keys=/k"]).keys == Path("/k")
