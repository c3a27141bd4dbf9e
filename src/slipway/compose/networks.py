"""Networks: which services reach each other."""

from __future__ import annotations

import re

from slipway.compose.document import Value
from slipway.compose.fields import texts
from slipway.compose.model import Network, NetworkUse

DEFAULT = "default"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", re.ASCII)
_ALIAS = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII)


def networks(value: Value) -> dict[str, Network]:
    """The top-level ``networks``."""
    found = {}
    for key, item in value.items():
        if not _NAME.fullmatch(key):
            raise item.fail_at_key(f"not a network's name: {key[:60]!r}")
        known = {"driver", "internal", "labels"}
        parts = item.fields(known, {"name", "external", "ipam", "driver_opts", "attachable", "enable_ipv6"})
        if "driver" in parts:
            parts["driver"].choice("bridge", "overlay")
        found[key] = Network(parts["internal"].boolean() if "internal" in parts else False)
    return found


def uses(value: Value) -> dict[str, NetworkUse]:
    """A service's ``networks``."""
    if not value.is_mapping:
        return {name: NetworkUse() for name in texts(value)}
    later = {"ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "driver_opts", "priority"}
    later |= {"gw_priority", "interface_name"}
    found = {}
    for name, item in value.items():
        parts = item.fields({"aliases"}, later)
        aliases = texts(parts["aliases"]) if "aliases" in parts else ()
        for alias in aliases:
            if not _ALIAS.fullmatch(alias):
                raise parts["aliases"].fail(
                    f"not an alias: {alias[:60]!r}", "use lower-case letters, digits and '-'"
                )
        found[name] = NetworkUse(aliases)
    return found
