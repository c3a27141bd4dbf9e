"""Durations, sizes and ports as Compose writes them. Each raises ``ValueError``."""

from __future__ import annotations

import re

from slipway.compose.model import Port

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_PORT = re.compile(
    r"(?:(?P<host>[0-9.]+|\[[0-9a-fA-F:]+\]):)?(?:(?P<published>\d{0,5}):)?(?P<target>\d{1,5})(?:/(?P<protocol>tcp|udp))?"
)


def duration(text: str) -> float:
    """Seconds. A bare number is seconds, too."""
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > 40:
        raise ValueError(f"not a duration: {text[:40]!r}, e.g. 30s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def size(text: str) -> int:
    """Bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text[:40]!r}, e.g. 512m or 1g")
    return int(float(match[1]) * (1 << _SHIFT[match[2].lower()]))


def port(text: str) -> Port:
    """The short syntax ``[[HOST:]PUBLISHED:]TARGET[/PROTOCOL]``, without ranges."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a port: {text[:60]!r}, e.g. 8000 or 127.0.0.1:9000:8000")
    target, published = int(match["target"]), int(match["published"] or 0)
    if not 0 < target < 65536 or published > 65535:
        raise ValueError(f"the port {text[:60]!r} is not between 1 and 65535")
    return Port(target, published, match["protocol"] or "tcp", (match["host"] or "").strip("[]"))
