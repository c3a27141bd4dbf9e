"""Durations, sizes and ports as Compose writes them. Each raises ``ValueError``."""

from __future__ import annotations

import ipaddress
import math
import re

from slipway.compose.model import Port

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_PORT = re.compile(
    r"(?:(?P<host>\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):)?(?:(?P<published>(?:\d{1,5}(?:-\d{1,5})?)?):)?"
    r"(?P<target>\d{1,5}(?:-\d{1,5})?)(?:/(?P<protocol>[a-z]+))?",
    re.ASCII,
)
_LONGEST = 100 * 365 * 86400.0


def duration(text: str) -> float:
    """Seconds. A bare number is seconds, too."""
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > 60:
        raise ValueError(f"not a duration: {text[:40]!r}, e.g. 30s or 1m30s")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"the duration {text[:40]!r} is longer than a hundred years")
    return seconds


def size(text: str) -> int:
    """Bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text[:40]!r}, e.g. 512m or 1g")
    return int(float(match[1]) * (1 << _SHIFT[match[2].lower()]))


def amount(text: str) -> float:
    """A number of processors, e.g. ``0.5``."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found <= 4096:
        raise ValueError(f"not a number of processors: {text[:40]!r}, e.g. 0.5")
    return found


def ports(text: str) -> tuple[Port, ...]:
    """The short syntax ``[[HOST:]PUBLISHED:]TARGET[/PROTOCOL]``; ranges of equal length pair up."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a port: {text[:60]!r}, e.g. 8000 or 127.0.0.1:9000:8000")
    return pair_up(match["target"], match["published"] or "", match["protocol"] or "tcp", match["host"] or "")


def pair_up(target: str, published: str, protocol: str, host: str) -> tuple[Port, ...]:
    """One ``Port`` for each number of the ranges."""
    inner = numbers(target)
    outer = numbers(published) if published else [0] * len(inner)
    if len(inner) != len(outer):
        raise ValueError(f"{published}:{target} are not as many ports on both sides")
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"unknown protocol {protocol[:20]!r}")
    if protocol != "tcp":
        raise ValueError("publishing UDP ports is not supported yet")
    address = str(ipaddress.ip_address(host.strip("[]"))) if host else ""
    return tuple(
        Port(inside, outside, protocol, address) for inside, outside in zip(inner, outer, strict=True)
    )


def numbers(text: str) -> list[int]:
    """The port numbers of ``8000`` or ``8000-8004``."""
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?", text, re.ASCII):
        raise ValueError(f"not a port or range of ports: {text[:40]!r}")
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 65536:
        raise ValueError(f"the port {text!r} is not between 1 and 65535")
    if high - low >= 100:
        raise ValueError(f"the range {text!r} has more than 100 ports")
    return list(range(low, high + 1))
