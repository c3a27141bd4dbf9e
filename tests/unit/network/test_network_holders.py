"""Ports: who listens, and what is put to netavark and ``ip``."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from slipway.network import processes
from slipway.network.build import resolver_text
from slipway.network.direct import batch
from slipway.network.holders import Holder, Listener, holders, is_free, parse_listeners, split
from slipway.network.netavark import request
from slipway.network.records import Lease, Network

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 00 100 0 0 10 0
   1: 0100007F:1F91 0200007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 00 100 0 0 10 0
"""
TABLE6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr ...
   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 99 1 0 100
"""
NETWORK = Network("demo-shop", "sw0123456789", "10.89.0.0/24", "10.89.0.1", True)
LEASE = Lease("10.89.0.2", "eth0", ("web",), "swb0123")


def test_listeners_are_read_from_the_kernels_table() -> None:
    assert list(parse_listeners(TABLE)) == [Listener("127.0.0.1", 8080, 4711)]
    assert list(parse_listeners(TABLE6)) == [Listener("::1", 80, 99)]
    assert list(parse_listeners("")) == []


@pytest.mark.parametrize("listened", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("wanted", ["127.0.0.1:{}", "*:{}", ":{}"])
def test_a_holder_is_found(listened: str, wanted: str) -> None:
    with socket.create_server((listened, 0)) as server:
        listen = wanted.format(server.getsockname()[1])
        assert not is_free(listen)
        assert holders(listen) == [Holder(os.getpid(), Path("/proc/self/comm").read_text().strip())]
    assert is_free(listen)
    assert holders(listen) == []


def test_an_address_in_parts() -> None:
    assert split("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split("[::1]:80") == ("::1", 80)
    assert split("*:80") == split(":80") == ("0.0.0.0", 80)


def test_netavark_is_told_names_no_other_server_has() -> None:
    told = request(NETWORK, "c1", LEASE)
    assert list(told["networks"]) == list(told["network_info"]) == ["sw0123456789"]
    assert told["networks"]["sw0123456789"] == {
        "static_ips": ["10.89.0.2"],
        "static_mac": "02:42:0a:59:00:02",
        "interface_name": "eth0",
        "aliases": ["web"],
    }
    info = told["network_info"]["sw0123456789"]
    assert info["subnets"] == [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]
    assert (info["dns_enabled"], info["options"], len(info["id"])) == (True, {"isolate": "true"}, 64)


def test_a_quick_connection_in_one_batch() -> None:
    assert batch(NETWORK, LEASE, "/proc/7/ns/net").splitlines() == [
        "link add eth0 address 02:42:0a:59:00:02 type veth peer name swb0123 netns /proc/7/ns/net",
        "address add 10.89.0.2/24 dev eth0",
        "link set eth0 up",
        "route add default via 10.89.0.1 dev eth0",
        "route add unreachable 169.254.0.0/16",
    ]


def test_name_servers_on_the_hosts_loopback_are_no_use(tmp_path: Path) -> None:
    host, upstream = tmp_path / "resolv.conf", tmp_path / "upstream"
    host.write_text("nameserver 127.0.0.53\noptions edns0\n")
    assert resolver_text((host, upstream)) == ""
    upstream.write_text("nameserver 192.0.2.53\nnameserver ::1\nsearch example\n")
    assert resolver_text((host, upstream)) == "nameserver 192.0.2.53\nsearch example\n"
    host.write_text("nameserver 198.51.100.1\n")
    assert resolver_text((host, upstream)) == "nameserver 198.51.100.1\n"


def test_processes_are_known_by_program_and_argument() -> None:
    words = processes.command(os.getpid())
    assert words
    name = os.path.basename(words[0])
    assert processes.is_ours(os.getpid(), name, words[1])
    assert not processes.is_ours(os.getpid(), "haproxy", words[1])
    assert not processes.is_ours(os.getpid(), name, "/no/such/file")
    assert os.getpid() in processes.find(name, words[1])
    assert processes.command(2**22 + 1) == []
