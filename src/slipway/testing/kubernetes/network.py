"""The cluster's network: one bridge of the host, a cable from each node's network namespace to it, and routes.

Pods hang on their node by routes, not by a bridge (CNI's ``ptp``), so that every packet passes the node's rules and
Services work without the kernel's bridge filter, and so that ``policies`` can hold it back.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

from slipway.testing.kubernetes.site import BRIDGE, HOST, HOST_NETWORK, PODS, PREFIX, SERVICES, Node

_MARK = ["-m", "comment", "--comment", PREFIX]
# What Pods ask of the world outside leaves with the host's address; between nodes nothing is rewritten or held back.
_RULES = (
    ["nat", "POSTROUTING", "-s", PODS, "-m", "iprange", "!", "--dst-range", "10.94.0.0-10.96.255.255"],
    ["nat", "POSTROUTING", "-s", HOST_NETWORK, "-m", "iprange", "!", "--dst-range", "10.94.0.0-10.96.255.255"],
    ["filter", "FORWARD", "-i", BRIDGE],
    ["filter", "FORWARD", "-o", BRIDGE],
)  # fmt: skip


def _ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _rules(action: str, check: bool) -> None:
    for table, chain, *match in _RULES:
        target = "MASQUERADE" if chain == "POSTROUTING" else "ACCEPT"
        subprocess.run(
            ["iptables", "-w", "-t", table, action, chain, *match, *_MARK, "-j", target],
            check=check, capture_output=True,
        )  # fmt: skip


def make_bridge() -> None:
    """The host's side. Does nothing when it is there."""
    if BRIDGE in _ip("-o", "link", "show", BRIDGE, check=False):
        return
    _ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    _ip("address", "add", f"{HOST}/16", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    subprocess.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], check=True)
    _rules("-I", check=True)


def remove_all() -> None:
    """Take everything of the cluster off the host's network, whatever there is of it."""
    for entry in json.loads(_ip("-json", "netns", "list") or "[]"):
        if entry["name"].startswith(f"{PREFIX}-"):
            _ip("netns", "delete", entry["name"])
    for entry in json.loads(_ip("-json", "link", "show") or "[]"):
        if entry["ifname"].startswith(PREFIX):
            _ip("link", "delete", entry["ifname"], check=False)
    for _ in range(2):  # an earlier run may have been killed between two rules
        _rules("-D", check=False)


def plug(node: Node, others: Iterable[Node]) -> None:
    """Give ``node`` its network; ``others`` are made to know the way to its Pods, and it the way to theirs."""
    unplug(node)
    _ip("netns", "add", node.namespace)
    inside = ("-n", node.namespace)
    _ip("link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
    _ip("link", "set", node.link, "master", BRIDGE, "up")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "address", "add", f"{node.address}/16", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "route", "add", "default", "via", HOST)
    _ip("route", "replace", node.pods, "via", node.address, "dev", BRIDGE)
    for other in others:
        if other != node:
            _ip(*inside, "route", "replace", other.pods, "via", other.address)
            _ip("-n", other.namespace, "route", "replace", node.pods, "via", node.address, check=False)


def cut(node: Node) -> None:
    """Pull the cable: from now on nobody hears of the node, not even that its connections end."""
    _ip("link", "set", node.link, "down", check=False)


def unplug(node: Node) -> None:
    _ip("link", "delete", node.link, check=False)
    _ip("netns", "delete", node.namespace, check=False)


def service_route() -> None:
    """Let the host itself reach Services, through the first node's rules."""
    _ip("route", "replace", SERVICES, "via", Node(1).address, "dev", BRIDGE)
