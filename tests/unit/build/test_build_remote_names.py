"""What names something elsewhere, and which hosts may be asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.remote import GitSource, HttpSource, parse_remote
from slipway.distribution.addresses import is_allowed
from slipway.errors import Invalid


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("https://e.org/a/b.tar.gz?x=1", HttpSource("https://e.org/a/b.tar.gz?x=1", "b.tar.gz")),
        ("http://e.org/", HttpSource("http://e.org/", "")),
        ("https://e.org/a%20b", HttpSource("https://e.org/a%20b", "a b")),
        ("https://e.org/..", HttpSource("https://e.org/..", "")),
        ("https://e.org/x.git", GitSource("https://e.org/x.git")),
        ("https://e.org/x.git#v1:sub/dir", GitSource("https://e.org/x.git", "v1", "sub/dir")),
        ("https://e.org/x.git?ref=v2&subdir=s", GitSource("https://e.org/x.git", "v2", "s")),
        ("git@e.org:team/x.git#main", GitSource("ssh://git@e.org/team/x.git", "main")),
        ("ssh://git@e.org:2222/x", GitSource("ssh://git@e.org:2222/x")),
        ("git://e.org/x", GitSource("git://e.org/x")),
        ("https://github.com/a/b", GitSource("https://github.com/a/b")),
        ("github.com/a/b#c", GitSource("https://github.com/a/b", "c")),
        ("path/to/file", None),
        ("file:///etc/passwd", None),
        ("ext::sh -c id", None),
        ("-oProxyCommand=x", None),
    ],
)
def test_addresses(word: str, found: object) -> None:
    assert parse_remote(word) == found


@pytest.mark.parametrize(
    "word",
    [
        "https://u:secret@e.org/x", "https:///x", "https://e.org:99999/x", "https://[::1/x", "git://e.org/x#--upload-pack=x",
        "git://e.org/x#a..b", "git://e.org/x?evil=1", "https://e.org/x.git#a b", "git://e.org/x?checksum=zz",
    ],
)  # fmt: skip
def test_malformed_ones_are_refused(word: str) -> None:
    with pytest.raises(Invalid):
        parse_remote(word)


def test_a_password_is_not_repeated_in_the_error() -> None:
    with pytest.raises(Invalid) as caught:
        parse_remote("https://u:secret@e.org/x")
    assert "secret" not in str(caught.value)


@given(st.text(max_size=80) | st.from_regex(r"(https?|git|ssh)://[a-z@:/?#.\[\]-]{0,30}", fullmatch=True))
def test_any_word_is_read(word: str) -> None:
    try:
        found = parse_remote(word)
    except Invalid:
        return
    if isinstance(found, GitSource):
        assert not found.ref.startswith("-")
    if isinstance(found, HttpSource):
        assert "/" not in found.name


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("93.184.216.34", True), ("10.1.2.3", True), ("fd00::1", True), ("127.0.0.1", False), ("::1", False),
        ("169.254.169.254", False), ("fe80::1%eth0", False), ("0.0.0.0", False), ("::ffff:127.0.0.1", False),
        ("224.0.0.1", False),
    ],
)  # fmt: skip
def test_hosts_that_are_the_servers_own(address: str, allowed: bool) -> None:
    assert is_allowed(address) == allowed
