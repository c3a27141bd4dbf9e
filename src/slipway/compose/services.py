"""One service of a Compose file, key by key."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, TypeVar

from slipway.compose import units
from slipway.compose.document import Value
from slipway.compose.model import Build, DependsOn, HealthTest, Port, Service, VolumeMount

T = TypeVar("T")
ReadFile = Callable[[str], str]
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,38}[a-z0-9])?")
_CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LATER = _keys(
    "annotations attach blkio_config cgroup cgroup_parent configs container_name cpu_count cpu_percent cpu_period "
    "cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpuset credential_spec develop device_cgroup_rules devices "
    "dns dns_opt dns_search domainname extends external_links gpus group_add init ipc isolation label_file links "
    "logging mac_address mem_reservation mem_swappiness memswap_limit models network_mode networks oom_kill_disable "
    "oom_score_adj pid platform post_start pre_start pre_stop privileged provider pull_refresh_after runtime secrets "
    "security_opt shm_size stdin_open storage_opt sysctls tty ulimits use_api_socket userns_mode uts volumes_from"
)
_BUILD_LATER = _keys(
    "cache_from cache_to no_cache no_cache_filter additional_contexts network ssh secrets tags platforms pull "
    "extra_hosts isolation privileged entitlements provenance sbom shm_size ulimits"
)


def service(name: str, value: Value, read_file: ReadFile) -> Service:
    """Raises ``ComposeError`` at the first key that is wrong."""
    if not _NAME.fullmatch(name):
        raise value.fail(
            f"not a service name: {name[:60]!r}", "use lower-case letters, digits, '-', '_' and '.'"
        )
    found: dict[str, Any] = {}
    for key, item in value.fields(_KEYS, _LATER).items():
        if key == "env_file":
            lines = [line for part in item.each() for line in _env_file(part, read_file)]
            found["environment"] = {**dict(lines), **found.get("environment", {})}
        elif key == "environment":
            found["environment"] = {**found.get("environment", {}), **mapping(item)}
        elif key == "deploy":
            found |= _deploy(item)
        elif key == "x-slipway":
            found["x_slipway"] = item.plain()
        elif key in _KEYS:
            field, parse = _KEYS[key]
            result = parse(item)
            if field:
                found[field] = result
    made = Service(name, **found)
    if not made.image and made.build is None:
        raise value.fail(
            f"the service {name!r} has neither `image` nor `build`", "say where its image comes from"
        )
    if made.replicas < 0 or made.replicas > 1000:
        raise value.fail(f"the service {name!r} wants {made.replicas} replicas; 0 to 1000 are possible")
    return made


def parsed(value: Value, parse: Callable[[str], T]) -> T:
    """A text through one of the ``units``, its error at the value's place."""
    try:
        return parse(value.text())
    except ValueError as error:
        raise value.fail(f"{value.path}: {error}") from error


def mapping(value: Value) -> dict[str, str]:
    """``{A: b}`` or ``[A=b]``; a key without a value is empty."""
    if value.is_mapping or value.is_null:
        return {key: "" if item.is_null else item.text() for key, item in value.items()}
    return {key: text for key, _, text in (item.text().partition("=") for item in value.each())}


def words(value: Value) -> tuple[str, ...] | None:
    """A command: a list, or a text split as a shell splits words. ``null`` keeps the image's."""
    if value.is_null:
        return None
    if value.is_list:
        return tuple(item.text() for item in value.each())
    try:
        return tuple(shlex.split(value.text()))
    except ValueError as error:
        raise value.fail(f"{value.path}: {error}") from error


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(item.text() for item in value.each())


def _build(value: Value) -> Build:
    if not value.is_mapping:
        return Build(value.text())
    known = {"context", "dockerfile", "dockerfile_inline", "args", "target", "labels"}
    found = value.fields(known, _BUILD_LATER)
    return Build(
        found["context"].text() if "context" in found else ".",
        found["dockerfile"].text() if "dockerfile" in found else "Dockerfile",
        found["dockerfile_inline"].text() if "dockerfile_inline" in found else None,
        mapping(found["args"]) if "args" in found else {},
        found["target"].text() if "target" in found else None,
        mapping(found["labels"]) if "labels" in found else {},
    )


def _ports(value: Value) -> tuple[Port, ...]:
    return tuple(_long_port(item) if item.is_mapping else parsed(item, units.port) for item in value.each())


def _long_port(value: Value) -> Port:
    found = value.fields({"target", "published", "protocol", "host_ip", "mode", "name", "app_protocol"})
    if "target" not in found:
        raise value.fail(f"{value.path} needs a target")
    published = found["published"].integer() if "published" in found else 0
    protocol = found["protocol"].text() if "protocol" in found else "tcp"
    host = found["host_ip"].text() if "host_ip" in found else ""
    return Port(found["target"].integer(), published, protocol, host)


def _volumes(value: Value) -> tuple[VolumeMount, ...]:
    return tuple(_long_volume(item) if item.is_mapping else _short_volume(item) for item in value.each())


def _short_volume(value: Value) -> VolumeMount:
    parts = value.text().split(":")
    if len(parts) > 3 or not parts[-1]:
        raise value.fail(
            f"not a volume: {value.text()[:100]!r}", "e.g. data:/var/lib/data or ./conf:/etc/app:ro"
        )
    options = parts[2].split(",") if len(parts) == 3 else []
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    if not target.startswith("/"):
        raise value.fail(f"the volume's target {target[:100]!r} must be an absolute path")
    kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
    return VolumeMount(target, kind, source, "ro" in options)


def _long_volume(value: Value) -> VolumeMount:
    found = value.fields({"type", "source", "target", "read_only", "volume", "bind", "tmpfs"})
    if "target" not in found or "type" not in found:
        raise value.fail(f"{value.path} needs a type and a target")
    kind = found["type"].text()
    if kind not in ("volume", "bind", "tmpfs"):
        raise found["type"].fail(f"the volume type {kind[:40]!r} is not supported", "volume, bind or tmpfs")
    read_only = "read_only" in found and found["read_only"].boolean()
    return VolumeMount(
        found["target"].text(), kind, found["source"].text() if "source" in found else "", read_only
    )


def _depends_on(value: Value) -> dict[str, DependsOn]:
    if not value.is_mapping:
        return {item.text(): DependsOn() for item in value.each()}
    found = {}
    for name, item in value.items():
        fields = item.fields({"condition", "required", "restart"})
        condition = fields["condition"].text() if "condition" in fields else _CONDITIONS[0]
        if condition not in _CONDITIONS:
            raise fields["condition"].fail(
                f"unknown condition {condition[:60]!r}", f"one of {', '.join(_CONDITIONS)}"
            )
        found[name] = DependsOn(condition, fields["required"].boolean() if "required" in fields else True)
    return found


def _healthcheck(value: Value) -> HealthTest:
    keys = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
    found = value.fields(keys)
    if "disable" in found and found["disable"].boolean():
        return HealthTest(("NONE",))
    if "test" not in found:
        raise value.fail(f"{value.path} needs a test", 'e.g. test: ["CMD", "curl", "-f", "http://localhost"]')
    item = found["test"]
    test = _texts(item) if item.is_list else ("CMD-SHELL", item.text())
    if not test or test[0] not in ("CMD", "CMD-SHELL", "NONE") or (len(test) < 2 and test[0] != "NONE"):
        raise item.fail("a test starts with CMD, CMD-SHELL or NONE")
    times = {
        key: parsed(found[key], units.duration)
        for key in ("interval", "timeout", "start_period", "start_interval")
        if key in found
    }
    return HealthTest(test, retries=found["retries"].integer() if "retries" in found else 3, **times)


def _deploy(value: Value) -> dict[str, Any]:
    later = _keys("mode endpoint_mode labels rollback_config restart_policy placement")
    found = value.fields({"replicas", "resources", "update_config"}, later)
    result: dict[str, Any] = {}
    if "replicas" in found:
        result["replicas"] = found["replicas"].integer()
    if "resources" in found:
        parts = found["resources"].fields({"limits", "reservations"})
        if "limits" in parts:
            limits = parts["limits"].fields({"cpus", "memory", "pids"})
            for key, parse in (("cpus", float), ("memory", units.size), ("pids", int)):
                if key in limits:
                    result[key] = parsed(limits[key], parse)
    if "update_config" in found:
        keys = found["update_config"].fields(
            {"order"}, frozenset(["parallelism", "delay", "failure_action", "monitor"])
        )
        if "order" in keys:
            result["order"] = keys["order"].text()
            if result["order"] not in ("start-first", "stop-first"):
                raise keys["order"].fail("the order is start-first or stop-first")
    return result


def _restart(value: Value) -> str:
    text = value.text()
    if not re.fullmatch(r"no|always|unless-stopped|on-failure(:\d{1,4})?", text):
        raise value.fail(
            f"not a restart policy: {text[:40]!r}", "no, always, unless-stopped or on-failure[:N]"
        )
    return text


def _extra_hosts(value: Value) -> dict[str, str]:
    if value.is_mapping:
        return mapping(value)
    pairs = (re.split(r"[=:]", item.text(), maxsplit=1) for item in value.each())
    return {pair[0]: pair[-1] for pair in pairs}


def _env_file(value: Value, read_file: ReadFile) -> list[tuple[str, str]]:
    path = (
        value.text() if not value.is_mapping else value.fields({"path", "required", "format"})["path"].text()
    )
    try:
        return parse_env(read_file(path))
    except OSError as error:
        raise value.fail(f"the env_file {path!r} cannot be read: {error.strerror}") from error


def parse_env(text: str) -> list[tuple[str, str]]:
    """``NAME=VALUE`` lines; ``#`` comments; quotes around a value are taken off."""
    found = []
    for line in text.splitlines():
        line = line.strip().removeprefix("export ")
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            found.append((name.strip(), value))
    return found


_KEYS: dict[str, tuple[str, Callable[[Value], Any]]] = {
    "image": ("image", Value.text),
    "build": ("build", _build),
    "command": ("command", words),
    "entrypoint": ("entrypoint", words),
    "environment": ("environment", mapping),
    "env_file": ("environment", mapping),
    "ports": ("ports", _ports),
    "expose": ("", _texts),
    "volumes": ("volumes", _volumes),
    "depends_on": ("depends_on", _depends_on),
    "healthcheck": ("healthcheck", _healthcheck),
    "restart": ("restart", _restart),
    "scale": ("replicas", Value.integer),
    "deploy": ("", mapping),
    "cpus": ("cpus", lambda value: parsed(value, float)),
    "mem_limit": ("memory", lambda value: parsed(value, units.size)),
    "pids_limit": ("pids", Value.integer),
    "labels": ("labels", mapping),
    "user": ("user", Value.text),
    "working_dir": ("working_dir", Value.text),
    "hostname": ("hostname", Value.text),
    "stop_signal": ("stop_signal", Value.text),
    "stop_grace_period": ("stop_grace_period", lambda value: parsed(value, units.duration)),
    "read_only": ("read_only", Value.boolean),
    "cap_add": ("cap_add", _texts),
    "cap_drop": ("cap_drop", _texts),
    "extra_hosts": ("extra_hosts", _extra_hosts),
    "tmpfs": ("tmpfs", _texts),
    "profiles": ("", _texts),
    "pull_policy": ("", Value.text),
}
