"""Volumes and ports of a service, in their short and long syntax."""

from __future__ import annotations

import re

from slipway.compose import fields, units
from slipway.compose.document import Value
from slipway.compose.fields import parsed, texts
from slipway.compose.model import Port, VolumeMount

_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", re.ASCII)
_OPTIONS = {"rw", "ro", "z", "Z"}


def ports(value: Value) -> tuple[Port, ...]:
    """Equal ones count once."""
    found = [
        port for item in value.each() for port in (_long_port(item) if item.is_mapping else _short_port(item))
    ]
    return tuple(dict.fromkeys(found))


def _short_port(value: Value) -> tuple[Port, ...]:
    return parsed(value, units.ports)


def _long_port(value: Value) -> tuple[Port, ...]:
    known = {"target", "published", "protocol", "host_ip", "mode", "name", "app_protocol"}
    found = value.fields(known)
    if "target" not in found:
        raise value.fail(f"{value.path} needs a target")
    if "mode" in found:
        found["mode"].choice("ingress", "host")
    target, published, protocol, host = (
        found[key].text() if key in found else "" for key in ("target", "published", "protocol", "host_ip")
    )
    try:
        return units.pair_up(target, published, protocol or "tcp", host)
    except ValueError as error:
        raise value.fail(f"{value.path}: {error}") from error


def exposed(value: Value) -> tuple[int, ...]:
    """TCP ports that only other services are to reach."""
    found = [
        number
        for item in value.each()
        if not item.text().endswith("/udp")
        for number in parsed(item, lambda text: units.numbers(text.removesuffix("/tcp")))
    ]
    return tuple(dict.fromkeys(found))


def volumes(value: Value) -> tuple[VolumeMount, ...]:
    """One for each target; the last counts."""
    found = [_long_volume(item) if item.is_mapping else _short_volume(item) for item in value.each()]
    return tuple({item.target.rstrip("/"): item for item in found}.values())


def volume_name(text: str, value: Value) -> str:
    """A volume's name becomes part of a path on the host: nothing but what is safe there."""
    if not _VOLUME.fullmatch(text):
        raise value.fail_at_key(f"not a volume name: {text[:60]!r}", "use letters, digits, '-', '_' and '.'")
    return text


def _short_volume(value: Value) -> VolumeMount:
    text = value.text()
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise value.fail(f"not a volume: {text[:100]!r}", "e.g. data:/var/lib/data or data:/var/lib/data:ro")
    options = parts[2].split(",") if len(parts) == 3 else []
    if unknown := set(options) - _OPTIONS:
        raise value.fail(f"unknown volume option {sorted(unknown)[0][:20]!r}", "ro or rw")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    if source.startswith(("/", ".", "~")):
        raise _bind(value, source)
    return _volume(value, target, source, "ro" in options)


def _long_volume(value: Value) -> VolumeMount:
    found = value.fields(
        {"type", "source", "target", "read_only"}, {"volume", "bind", "tmpfs", "consistency", "image"}
    )
    if "target" not in found or "type" not in found:
        raise value.fail(f"{value.path} needs a type and a target")
    kind = found["type"].choice("volume", "bind", "tmpfs")
    source = found["source"].text() if "source" in found else ""
    if kind == "bind":
        raise _bind(found["type"], source)
    read_only = "read_only" in found and found["read_only"].boolean()
    if kind == "tmpfs":
        return VolumeMount(fields.path(found["target"]), kind, "", read_only)
    return _volume(value, found["target"].text(), source, read_only)


def _volume(value: Value, target: str, source: str, read_only: bool) -> VolumeMount:
    if not target.startswith("/") or not target.strip("/") or ".." in target.split("/"):
        raise value.fail(f"the volume's target {target[:100]!r} must be an absolute path below '/'")
    return VolumeMount(target, "volume", volume_name(source, value) if source else "", read_only)


def _bind(value: Value, source: str) -> Exception:
    # A path of the host would give whoever may deliver an app the host's own files.
    return value.fail(f"mounting {source[:100]!r} of the host is not supported", "use a named volume")


def tmpfs(value: Value) -> tuple[str, ...]:
    for item, text in zip(value.each(), texts(value), strict=True):
        if ":" in text:
            raise item.fail("options of a tmpfs are not supported yet", f"write {text.partition(':')[0]!r}")
        fields.path(item)
    return texts(value)
