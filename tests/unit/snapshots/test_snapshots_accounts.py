"""Users of an image by name and number."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Invalid
from slipway.snapshots import RootView
from slipway.snapshots.accounts import Account, resolve_user

_PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
²:x:²:7::/:/bin/sh
odd:x:12:none::/:/bin/sh
short:x:5
homeless:x:9:9:::
"""
_GROUP = "root:x:0:\napp:x:1001:\nwww:x:33:app,other\nlogs:x:4:other,app\nbroken:x:x:app\n"


@pytest.fixture
def root(tmp_path: Path) -> RootView:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(_PASSWD)
    (tmp_path / "etc/group").write_text(_GROUP)
    return RootView([tmp_path])


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("", Account(0, 0, (), "/root")),
        ("app", Account(1000, 1001, (33, 4), "/home/app")),
        ("1000", Account(1000, 1001, (33, 4), "/home/app")),
        ("app:www", Account(1000, 33, (), "/home/app")),
        ("app:77", Account(1000, 77, (), "/home/app")),
        ("4242", Account(4242, 0, (), "/")),
        ("4242:logs", Account(4242, 4, (), "/")),
        ("homeless", Account(9, 9, (), "/")),
    ],
)
def test_known_accounts(root: RootView, text: str, account: Account) -> None:
    assert resolve_user(text, root) == account


@pytest.mark.parametrize("text", ["nobody", "²", "odd", "short", "-1", "app:nowhere", "app:²"])
def test_unknown_names_are_refused(root: RootView, text: str) -> None:
    with pytest.raises(Invalid, match="there is no"):
        resolve_user(text, root)


def test_an_image_without_accounts_has_numbers_only() -> None:
    with RootView([]) as root:
        assert resolve_user("", root) == Account(0, 0, (), "/")
        assert resolve_user("7:8", root) == Account(7, 8, (), "/")


@given(passwd=st.binary(max_size=200), user=st.text(max_size=5))
def test_any_file_is_read(passwd: bytes, user: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    layer = tmp_path_factory.getbasetemp() / "accounts"
    (layer / "etc").mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group"):
        (layer / "etc" / name).write_bytes(passwd + b"\nu:x:1:2:3:4:5")
    with RootView([layer]) as root:
        with contextlib.suppress(Invalid):
            assert resolve_user(user, root).uid >= 0
