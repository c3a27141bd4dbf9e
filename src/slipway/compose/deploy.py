"""``deploy`` and ``x-slipway``: how many run, with how much, and how they take over."""

from __future__ import annotations

from typing import Any

from slipway.compose import units
from slipway.compose.document import Value
from slipway.compose.fields import parsed

MAX_REPLICAS = 1000


def cpus(value: Value) -> float:
    return parsed(value, units.amount)


def size(value: Value) -> int:
    return parsed(value, units.size)


def duration(value: Value) -> float:
    return parsed(value, units.duration)


_DEVICE = (
    "remove it: services are given no devices. For a cluster, `slipway app render` prints the manifests; a device "
    "plugin's resource can be added to those and applied with kubectl"
)
DEVICES = dict.fromkeys(("devices", "device_cgroup_rules", "generic_resources", "gpus"), _DEVICE)
"""Keys that ask for devices, and what to do instead."""


def count(value: Value) -> int:
    """``-1`` and ``0`` are no limit, as in Docker."""
    number = value.integer()
    if number < -1 or number > 4_194_304:
        raise value.fail(f"{value.path}: {number} is not possible")
    return max(number, 0)


def replicas(value: Value) -> int:
    number = value.integer()
    if not 0 <= number <= MAX_REPLICAS:
        raise value.fail(f"{number} replicas are not possible", f"0 to {MAX_REPLICAS}")
    return number


def deploy(value: Value) -> dict[str, Any]:
    later = {"mode", "endpoint_mode", "labels", "rollback_config", "restart_policy", "placement"}
    found = value.fields({"replicas", "resources", "update_config"}, later)
    result: dict[str, Any] = {}
    if "replicas" in found:
        result["replicas"] = replicas(found["replicas"])
    if "resources" in found:
        parts = found["resources"].fields({"limits", "reservations"})
        if "limits" in parts:
            limits = parts["limits"].fields({"cpus", "memory", "pids"})
            for key, parse in (("cpus", cpus), ("memory", size), ("pids", count)):
                if key in limits:
                    result[key] = parse(limits[key])
        if "reservations" in parts:
            # They place work among machines; on one machine there is nothing to place.
            reserved = parts["reservations"].fields({"cpus", "memory", "pids"}, DEVICES, DEVICES)
            for key, parse in (("cpus", cpus), ("memory", size)):
                if key in reserved:
                    result[f"{key}_reserved"] = parse(reserved[key])
    if "update_config" in found:
        later = {"parallelism", "delay", "failure_action", "monitor", "max_failure_ratio"}
        keys = found["update_config"].fields({"order"}, later)
        if "order" in keys:
            result["order"] = keys["order"].choice("start-first", "stop-first")
    return result


def traits(value: Value) -> dict[str, Any]:
    """``x-slipway``: what Compose has no word for. Ours, so a wrong key is refused."""
    found = value.fields({"order", "update", "deploy_timeout", "job", "spread"})
    result: dict[str, Any] = {}
    if "update" in found:
        parts = found["update"].fields({"order"})
        if "order" in parts:
            result["order"] = parts["order"].choice("start-first", "stop-first")
    if "order" in found:
        result["order"] = found["order"].choice("start-first", "stop-first")
    if "job" in found:
        result["job"] = found["job"].boolean()
    if "spread" in found:
        result["spread"] = found["spread"].boolean()
    if "deploy_timeout" in found:
        result["deploy_timeout"] = parsed(found["deploy_timeout"], units.duration)
        if not 0 < result["deploy_timeout"] <= 3600:
            raise found["deploy_timeout"].fail("deploy_timeout must be more than 0 and at most an hour")
    return result | {key: item.plain() for key, item in found.items() if key.startswith("x-")}
