"""Addresses: whose they are, when they rest, what the file holds."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Exhausted, Invalid
from slipway.network.records import (
    Lease,
    Network,
    Record,
    check_aliases,
    check_name,
    free_subnet,
    mac_of,
)

NETWORK = Network("demo-shop", "sw0123456789", "10.89.0.0/24", "10.89.0.1", True)
IDS = st.text("abcdef0123456789", min_size=1, max_size=12)


def test_addresses_rest_before_they_are_given_again() -> None:
    record = Record(NETWORK).allocate("a").allocate("b")
    assert [record.leases[item].address for item in "ab"] == ["10.89.0.2", "10.89.0.3"]
    record = record.release("a").release("b").allocate("c")
    assert record.leases["c"].address == "10.89.0.4"


def test_after_the_last_address_the_first_free_one_follows() -> None:
    record = Record(NETWORK, {"a": Lease("10.89.0.2")}, last="10.89.0.254")
    assert record.allocate("b").leases["b"].address == "10.89.0.3"


def test_a_full_network_says_so() -> None:
    record = Record(NETWORK)
    for index in range(253):
        record = record.allocate(str(index))
    with pytest.raises(Exhausted, match="no address left"):
        record.allocate("one more")
    assert record.release("7").allocate("one more").leases["one more"].address == "10.89.0.9"


def test_an_ethernet_address_belongs_to_an_address() -> None:
    assert mac_of("10.89.0.255") == "02:42:0a:59:00:ff"
    assert Lease("10.89.0.2").mac == mac_of("10.89.0.2")


def test_a_moved_network_starts_anew() -> None:
    record = Record(NETWORK, last="10.89.0.9").moved(ipaddress.IPv4Network("10.89.7.0/24"))
    assert (record.network.subnet, record.network.gateway) == ("10.89.7.0/24", "10.89.7.1")
    assert record.allocate("a").leases["a"].address == "10.89.7.2"
    assert record.network.bridge == NETWORK.bridge


@given(st.lists(st.tuples(st.booleans(), IDS), max_size=60))
def test_no_address_is_ever_given_twice(steps: list[tuple[bool, str]]) -> None:
    record = Record(NETWORK)
    for take, name in steps:
        record = record.allocate(name) if take and name not in record.leases else record.release(name)
        addresses = [lease.address for lease in record.leases.values()]
        assert len(set(addresses)) == len(addresses)
        assert not {"10.89.0.0", "10.89.0.1", "10.89.0.255"} & set(addresses)
        assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@given(IDS, st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)), st.sampled_from(["", "swb1"]))
def test_a_record_survives_its_file(name: str, aliases: list[str], device: str) -> None:
    record = Record(NETWORK, labels={"app": "shop"}).allocate(name, "eth1", aliases, device)
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_record_of_the_first_days_is_read() -> None:
    value = Record(NETWORK).to_json() | {"addresses": {"a": "10.89.0.7"}}
    del value["last"], value["labels"]
    assert Record.from_json(value).leases == {"a": Lease("10.89.0.7")}


@given(st.lists(st.integers(0, 255), max_size=40))
def test_a_free_range_overlaps_nothing(taken: list[int]) -> None:
    others = [ipaddress.IPv4Network(f"10.89.{index}.0/24") for index in taken]
    found = free_subnet(ipaddress.IPv4Network("10.89.0.0/16"), others)
    assert not any(found.overlaps(other) for other in others)


def test_a_wide_route_takes_many_ranges_and_a_full_pool_says_so() -> None:
    pool = ipaddress.IPv4Network("10.89.0.0/23")
    assert str(free_subnet(pool, [ipaddress.IPv4Network("10.89.0.128/25")])) == "10.89.1.0/24"
    assert str(free_subnet(ipaddress.IPv4Network("10.89.0.0/26"), [])) == "10.89.0.0/26"
    with pytest.raises(Exhausted, match=r"no address range is left in 10\.89\.0\.0/23"):
        free_subnet(pool, [ipaddress.IPv4Network("10.0.0.0/8")])


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "-a", "A", "a b", "a" * 129, "a\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name)


def test_good_names() -> None:
    check_name("demo-shop_1.x")
    check_aliases(["web", "Web_1", "a.b"])


@pytest.mark.parametrize("alias", ["", "a b", "a,b", "a\n10.0.0.1 evil", "-x"])
def test_bad_aliases(alias: str) -> None:
    with pytest.raises(Invalid):
        check_aliases(["web", alias])
