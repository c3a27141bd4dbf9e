"""Which addresses are asked for whom."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.remote import Remotes
from slipway.build.remote.names import GitSource, HttpSource
from slipway.distribution.addresses import Reach, check_host
from slipway.errors import Denied

PRIVATE = ("10.0.0.0/8", "192.168.0.0/16", "fc00::/7")


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("198.51.100.7", True), ("2001:db8::1", True), ("10.9.8.7", False), ("fd00::1", False),
        ("::ffff:10.9.8.7", False), ("10.1.2.3", True), ("10.1.2.4", False),
    ],
)  # fmt: skip
def test_a_network_within_an_exception_may_be_opened(address: str, is_open: bool) -> None:
    assert Reach(("0.0.0.0/0", "::/0", "10.1.2.3/32"), PRIVATE).has(address) is is_open


@given(st.ip_addresses(), st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_without_exceptions_all_is_open_and_with_them_none_of_theirs(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address, private: ipaddress.IPv4Address
) -> None:
    assert Reach().has(str(one))
    assert not Reach(inside=PRIVATE).has(str(private))
    assert not Reach((), ()).has(str(one))


async def test_what_a_build_could_not_reach_is_not_fetched_for_it(tmp_path: Path) -> None:
    assert await check_host("192.0.2.1", 80) == ["192.0.2.1"]
    remotes = Remotes(tmp_path, Reach(inside=("192.0.2.0/24",)))
    for source in (HttpSource("http://192.0.2.1/x", "x"), GitSource("git://192.0.2.1/x.git")):
        with pytest.raises(Denied, match="which builds here may not reach") as caught:
            async with remotes.fetched(source):
                pass
        assert "kubernetes.egress" in caught.value.hint
