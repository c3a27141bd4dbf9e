"""Networks on a real kernel, with netavark and aardvark-dns, in a host network of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from slipway.base.ids import new_id
from slipway.errors import Failed, Invalid, NotFound, SlipwayError
from slipway.network import BuildNetwork, Networks, netns, processes
from slipway.network.build import NAME
from slipway.testing.host_network import links, own_host_network, rules

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(120)]
POOL = "10.222.0.0/16"
LOOKUP = """
import socket, struct, sys
server, name = sys.argv[1:]
asked = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0)
asked += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\0" + struct.pack(">2H", 1, 1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    probe.settimeout(1)
    probe.connect((server, 53))
    probe.send(asked)
    answer = probe.recv(4096)
for index in range(struct.unpack(">H", answer[6:8])[0]):
    start = len(asked) + index * 16
    print(socket.inet_ntoa(answer[start + 12 : start + 16]))
"""


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    with own_host_network():
        yield


@pytest.fixture
async def networks(tmp_path: Path) -> AsyncIterator[Networks]:
    """Torn down to nothing after every test, whatever it did."""
    found = Networks(tmp_path / "data", tmp_path / "run", POOL)
    yield found
    await found.down()
    assert rules() == ""
    assert links() <= {"lo"}
    assert processes.find("aardvark-dns", str(tmp_path / "run" / "netavark" / "aardvark-dns")) == []
    assert list((tmp_path / "run" / "netns").iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list((tmp_path / "data" / "networks").iterdir()) == []


class Guest:
    """A container as the networks see it: a namespace."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.id = new_id(12)
        self.path = networks.netns_path(self.id)
        self.address = self.dns = ""

    async def join(self, network: str, *aliases: str) -> Guest:
        if not self.path.exists():
            await self.networks.create_netns(self.id)
        found = await self.networks.attach(self.path, network, self.id, aliases)
        self.address, self.dns = found.address, found.dns
        return self

    def inside(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["nsenter", f"--net={self.path}", *argv], capture_output=True, text=True)

    def reaches(self, address: str, port: int) -> bool:
        probe = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.7)"
        return self.inside(sys.executable, "-c", probe, address, str(port)).returncode == 0

    def lookup(self, name: str) -> set[str]:
        """Asked again for a while: the name server reads its file anew after each change."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self.inside(sys.executable, "-c", LOOKUP, self.dns, name)
            if answer.returncode == 0:
                return set(answer.stdout.split())
            time.sleep(0.05)
        raise AssertionError(answer.stderr)

    async def leave(self, network: str) -> None:
        await self.networks.detach(self.path, network, self.id)
        await self.networks.delete_netns(self.id)


@pytest.fixture
def listeners() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def listen(listeners: list[subprocess.Popen[bytes]], path: Path | None, port: int) -> None:
    program = (
        f"import socket; s = socket.create_server(('0.0.0.0', {port})); print(flush=True)\n"
        "while True: s.accept()"
    )
    enter = ["nsenter", f"--net={path}"] if path else []
    listeners.append(started(*enter, sys.executable, "-c", program))


def started(*argv: str) -> subprocess.Popen[bytes]:
    """A process that has said its first line."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def test_a_container_has_an_address_a_route_out_and_the_host_reaches_it(
    networks: Networks, listeners: list[subprocess.Popen[bytes]]
) -> None:
    network = await networks.ensure("demo-shop")
    assert await networks.ensure("demo-shop") == network
    assert len(network.bridge) <= 15
    guest = await Guest(networks).join("demo-shop", "web")
    assert f"default via {network.gateway} dev eth0" in guest.inside("ip", "route").stdout
    listen(listeners, guest.path, 8000)
    socket.create_connection((guest.address, 8000), 2).close()
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert f"-A POSTROUTING -s {network.subnet}" in rules()
    assert "-j MASQUERADE" in rules()


FORGED = """
import socket, struct, sys
gateway, target, port = sys.argv[1:]
here = [line.split() for line in open("/proc/net/arp")][1:]
mac = next(bytes.fromhex(line[3].replace(":", "")) for line in here if line[0] == gateway)
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
    wire.bind(("eth0", 0))
    own = wire.getsockname()[4]
    source = socket.inet_aton(sys.argv[1][:-1] + "9")
    udp = struct.pack(">4H", 4000, int(port), 8 + 4, 0) + b"here"
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0, source, socket.inet_aton(target))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + head[12:]
    wire.send(mac + own + b"\\x08\\x00" + head + udp)
"""


async def test_packets_made_by_hand_do_not_reach_the_hosts_loopback(networks: Networks) -> None:
    """What listens on 127.0.0.1 believes that whoever talks to it is on this machine."""
    network = await networks.ensure("one", names=False)
    guest = await Guest(networks).join("one")
    await networks.ensure(NAME, names=False)
    await networks.hold(NAME)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", 0))
        listener.settimeout(1)
        port = str(listener.getsockname()[1])
        guest.inside(
            sys.executable,
            "-c",
            f"import socket; socket.socket(2, 2).sendto(b'', ('{network.gateway}', 9))",
        )
        for target, arrives in ((network.gateway, True), ("127.0.0.1", False), ("127.0.0.53", False)):
            sent = guest.inside(sys.executable, "-c", FORGED, network.gateway, target, port)
            assert sent.returncode == 0, sent.stderr
            try:
                assert (listener.recv(100) == b"here") is arrives
            except TimeoutError:
                assert not arrives
    for name in ("one", NAME):
        setting = Path(f"/proc/sys/net/ipv4/conf/{networks.get(name).bridge}/route_localnet")
        assert setting.read_text().strip() == "0"
    await guest.leave("one")


async def test_an_alias_names_every_replica_and_only_those_that_are_there(networks: Networks) -> None:
    await networks.ensure("demo-shop")
    client = await Guest(networks).join("demo-shop", "client")
    first = await Guest(networks).join("demo-shop", "web")
    second = await Guest(networks).join("demo-shop", "web", "front")
    assert client.lookup("web") == {first.address, second.address}
    assert client.lookup("front") == {second.address}
    assert client.lookup(first.id) == {first.address}
    await first.leave("demo-shop")
    assert client.lookup("web") == {second.address}


async def test_networks_do_not_reach_each_other(
    networks: Networks, listeners: list[subprocess.Popen[bytes]]
) -> None:
    for name in ("demo-shop", "demo-bank"):
        await networks.ensure(name)
    shop, other = await Guest(networks).join("demo-shop"), await Guest(networks).join("demo-shop")
    bank = await Guest(networks).join("demo-bank", "bank")
    listen(listeners, bank.path, 8000)
    listen(listeners, other.path, 8000)
    assert shop.reaches(other.address, 8000)
    assert not shop.reaches(bank.address, 8000)


async def test_a_container_on_two_networks(networks: Networks) -> None:
    for name in ("demo-front", "demo-back"):
        await networks.ensure(name)
    guest = Guest(networks)
    await guest.join("demo-front")
    await guest.join("demo-back")
    assert "eth1" in guest.inside("ip", "-br", "link").stdout
    await networks.detach(guest.path, "demo-front", guest.id)
    shown = guest.inside("ip", "-br", "link").stdout
    assert "eth1" in shown
    assert "eth0" not in shown


async def test_containers_keep_their_gateway_while_others_come_and_go(
    networks: Networks, listeners: list[subprocess.Popen[bytes]]
) -> None:
    network = await networks.ensure("demo-shop")
    stays = await Guest(networks).join("demo-shop")
    listen(listeners, None, 8000)
    for _ in range(5):
        guest = await Guest(networks).join("demo-shop")
        assert stays.reaches(network.gateway, 8000)
        await guest.leave("demo-shop")
        assert stays.reaches(network.gateway, 8000)


async def test_many_attach_at_the_same_time(networks: Networks) -> None:
    names = [f"demo-{index}" for index in range(4)]
    for name in names:
        await networks.ensure(name)
    guests = await asyncio.gather(*(Guest(networks).join(name) for name in names for _ in range(2)))
    assert len({guest.address for guest in guests}) == 8
    assert rules().count("-j NETAVARK_FORWARD") == 1
    await asyncio.gather(*(networks.remove(name) for name in names))
    assert networks.list() == []
    assert not any("10.222." in line for line in rules().splitlines())


async def test_two_servers_with_networks_of_one_name(networks: Networks, tmp_path: Path) -> None:
    other = Networks(tmp_path / "other" / "data", tmp_path / "other" / "run", POOL)
    await networks.ensure("demo-shop")
    guest = await Guest(networks).join("demo-shop")
    await other.ensure("demo-shop")
    theirs = await Guest(other).join("demo-shop")
    assert other.get("demo-shop").subnet != networks.get("demo-shop").subnet
    before = rules()
    await theirs.leave("demo-shop")
    await other.down()
    mine = networks.get("demo-shop").subnet
    assert [line for line in rules().splitlines() if mine in line] == [
        line for line in before.splitlines() if mine in line
    ]
    assert guest.lookup(guest.id) == {guest.address}


async def test_a_namespace_that_has_gone_leaves_no_rule(networks: Networks) -> None:
    await networks.ensure("demo-shop")
    guest, stays = await Guest(networks).join("demo-shop"), await Guest(networks).join("demo-shop")
    netns.delete(guest.path)
    await networks.detach(guest.path, "demo-shop", guest.id)
    assert stays.lookup(stays.id) == {stays.address}
    netns.delete(stays.path)
    await networks.detach(stays.path, "demo-shop", stays.id)
    await networks.detach(stays.path, "demo-shop", stays.id)
    assert not direct_links()
    assert not any("10.222." in line for line in rules().splitlines())


def direct_links() -> set[str]:
    return {name for name in links() if name.startswith(("sw", "veth"))}


async def test_the_hosts_own_namespace_is_never_touched(networks: Networks, tmp_path: Path) -> None:
    await networks.ensure("demo-shop")
    builds = BuildNetwork(networks)
    with pytest.raises(Failed, match="no network namespace"):
        await builds.attach(Path("/proc/self/ns/net"), "b1")
    plain = tmp_path / "plain"
    plain.touch()
    with pytest.raises(SlipwayError):
        await networks.attach(plain, "demo-shop", new_id(12), [])
    assert not networks._records["demo-shop"].leases


async def test_what_is_no_name_is_refused(networks: Networks) -> None:
    with pytest.raises(Invalid, match="no name for a network"):
        await networks.ensure("../etc")
    await networks.ensure("demo-shop")
    with pytest.raises(Invalid, match="no name for a container"):
        await networks.attach(Path("/nowhere"), "demo-shop", new_id(12), ["web\n10.0.0.1"])
    with pytest.raises(NotFound):
        await networks.attach(Path("/nowhere"), "nothing", new_id(12), [])


async def test_a_range_that_somebody_took_is_left_to_him(networks: Networks) -> None:
    before = await networks.ensure("demo-shop")
    ip("link", "add", "theirs", "type", "bridge")
    ip("address", "add", before.subnet.replace(".0/24", ".77/24"), "dev", "theirs")
    ip("link", "set", "theirs", "up")
    guest = await Guest(networks).join("demo-shop")
    assert networks.get("demo-shop").subnet != before.subnet
    assert guest.address.rpartition(".")[0] != before.gateway.rpartition(".")[0]
    ip("link", "delete", "theirs")


# Builds


async def test_a_bridge_whose_record_was_deleted_is_made_anew(networks: Networks, tmp_path: Path) -> None:
    await networks.ensure("net")
    await Guest(networks).join("net", "old")
    (tmp_path / "data" / "networks" / "net.json").unlink()
    again = Networks(tmp_path / "data", tmp_path / "run", POOL)
    found = await again.ensure("net")
    guest = await Guest(again).join("net", "new")
    try:
        assert guest.lookup("new") == {guest.address}
        assert rules().count(f"-s {found.subnet} -j ACCEPT") == 1
    finally:
        await again.down()


async def test_builds_get_out_and_do_not_see_each_other(
    networks: Networks, listeners: list[subprocess.Popen[bytes]]
) -> None:
    builds = BuildNetwork(networks)
    first, second = Guest(networks), Guest(networks)
    for guest in (first, second):
        await networks.create_netns(guest.id)
        resolver = await builds.attach(guest.path, guest.id)
        assert "nameserver" in resolver
        guest.address = networks._records[NAME].leases[guest.id].address
    listen(listeners, second.path, 8000)
    listen(listeners, None, 8001)
    gateway = networks.get(NAME).gateway
    assert f"default via {gateway}" in first.inside("ip", "route").stdout
    assert first.reaches(gateway, 8001)
    assert not first.reaches(second.address, 8000)
    await builds.detach(first.path, first.id)
    assert "eth0" not in first.inside("ip", "-br", "link").stdout
    netns.delete(second.path)  # A worker that died took its namespace along.
    await builds.detach(second.path, second.id)
    await builds.detach(second.path, second.id)


async def test_a_build_is_attached_quickly(networks: Networks, capsys: pytest.CaptureFixture[str]) -> None:
    builds = BuildNetwork(networks)
    begin = time.perf_counter()
    await builds.prepare()
    first = time.perf_counter() - begin
    took, left = [], []
    for _ in range(10):
        guest = Guest(networks)
        await networks.create_netns(guest.id)
        begin = time.perf_counter()
        await builds.attach(guest.path, guest.id)
        took.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await builds.detach(guest.path, guest.id)
        left.append(time.perf_counter() - begin)
    with capsys.disabled():
        print(
            f"\nbuild network: made in {first * 1000:.0f} ms; attach median {sorted(took)[5] * 1000:.1f} ms, "
            f"detach {sorted(left)[5] * 1000:.1f} ms"
        )
    assert min(took) < 0.25


# Crashes

KILLED = """
import asyncio, sys
from pathlib import Path
from slipway.base.ids import new_id
from slipway.network import BuildNetwork, Networks

async def work():
    networks = Networks(Path(sys.argv[1]) / "data", Path(sys.argv[1]) / "run", "10.222.0.0/16")
    builds = BuildNetwork(networks)
    print(flush=True)
    while True:
        await networks.ensure("demo-shop")
        guests = [new_id(12) for _ in range(2)]
        for guest in guests:
            await networks.attach(await networks.create_netns(guest), "demo-shop", guest, ["web"])
        await builds.attach(networks.netns_path(guests[0]).with_name(await fresh(networks)), "build")
        await builds.detach(Path("/gone"), "build")
        for guest in guests:
            await networks.detach(networks.netns_path(guest), "demo-shop", guest)
            await networks.delete_netns(guest)
        await networks.remove("demo-shop")

async def fresh(networks):
    return (await networks.create_netns(new_id(12))).name

asyncio.run(work())
"""


@pytest.mark.parametrize("after", [0.01, 0.035, 0.06, 0.09, 0.13, 0.18, 0.24, 0.4])
async def test_killed_at_any_instant_nothing_stays(tmp_path: Path, networks: Networks, after: float) -> None:
    alive = await Guest(networks).join((await networks.ensure("demo-alive")).name)
    process = started(sys.executable, "-c", KILLED, str(tmp_path / "other"))
    await asyncio.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = Networks(tmp_path / "other" / "data", tmp_path / "other" / "run", POOL)
    await found.recover(())
    assert list((tmp_path / "other" / "run" / "netns").iterdir()) == []
    await found.down()
    assert direct_links() <= {
        networks.get("demo-alive").bridge,
        *(name for name in links() if "veth" in name),
    }
    assert sum(name.startswith("sw") for name in links()) == 1
    assert alive.lookup(alive.id) == {alive.address}


async def test_the_living_keep_their_place_over_a_restart(networks: Networks, tmp_path: Path) -> None:
    await networks.ensure("demo-shop")
    stays, goes = (
        await Guest(networks).join("demo-shop", "web"),
        await Guest(networks).join("demo-shop", "web"),
    )
    again = Networks(tmp_path / "data", tmp_path / "run", POOL)
    await again.recover([stays.id])
    assert stays.lookup("web") == {stays.address}
    assert not goes.path.exists()
    newcomer = await Guest(again).join("demo-shop", "web")
    assert stays.lookup("web") == {stays.address, newcomer.address}
    assert newcomer.address not in (stays.address, goes.address)
    networks._records = again._records


async def test_after_a_reboot_containers_are_connected_again(networks: Networks, tmp_path: Path) -> None:
    network = await networks.ensure("demo-shop")
    guest, other = (
        await Guest(networks).join("demo-shop", "web"),
        await Guest(networks).join("demo-shop", "db"),
    )
    for item in (guest, other):
        netns.delete(item.path)
    await networks._netavark.stop_serving()
    ip("link", "delete", network.bridge)
    again = Networks(tmp_path / "data", tmp_path / "run", POOL)
    await again.recover([guest.id, other.id])
    assert guest.lookup("db") == {other.address}
    assert other.lookup("web") == {guest.address}


async def test_a_name_server_that_died_is_started_again(networks: Networks, tmp_path: Path) -> None:
    await networks.ensure("demo-shop")
    guest = await Guest(networks).join("demo-shop", "web")
    for pid in networks._netavark.serving:
        os.kill(pid, signal.SIGKILL)
    await networks.recover([guest.id])
    assert guest.lookup("web") == {guest.address}
