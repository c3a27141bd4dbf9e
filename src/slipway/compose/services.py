"""One service of a Compose file, key by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from slipway.base import capabilities
from slipway.compose import deploy, files, mounts, networks
from slipway.compose.document import Value
from slipway.compose.envfile import parse_env
from slipway.compose.fields import environment, mapping, path, texts, words
from slipway.compose.health import depends_on, healthcheck
from slipway.compose.model import Build, Service

ReadFile = Callable[[str], str]
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,38}[a-z0-9])?", re.ASCII)
_HOST = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?", re.ASCII)
_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]{1,14}|\d{1,2}", re.ASCII)
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:\d{1,4})?", re.ASCII)


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LATER = _keys(
    "annotations attach blkio_config cgroup cgroup_parent container_name cpu_count cpu_percent cpu_period "
    "cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpuset credential_spec develop device_cgroup_rules devices "
    "dns dns_opt dns_search domainname extends external_links gpus group_add init ipc isolation label_file links "
    "logging mac_address mem_reservation mem_swappiness memswap_limit models network_mode oom_kill_disable "
    "oom_score_adj pid platform post_start pre_start pre_stop privileged provider pull_refresh_after runtime "
    "security_opt stdin_open storage_opt sysctls tty ulimits use_api_socket userns_mode uts volumes_from"
)
_BUILD_LATER = _keys(
    "cache_from cache_to no_cache no_cache_filter additional_contexts network ssh secrets tags platforms pull "
    "extra_hosts isolation privileged entitlements provenance sbom shm_size ulimits"
)


def service(name: str, value: Value, variables: Mapping[str, str], read_file: ReadFile) -> Service:
    """``variables`` stand for the environment of whoever delivers. Raises ``ComposeError`` at the first mistake."""
    if not _NAME.fullmatch(name):
        raise value.fail_at_key(
            f"not a service name: {name[:60]!r}", "use lower-case letters, digits, '-', '_' and '.'"
        )
    found: dict[str, Any] = {}
    fields = value.fields(_KEYS.keys() | _OTHER, _LATER, deploy.DEVICES)
    for key, item in fields.items():
        if key in _KEYS:
            field, parse = _KEYS[key]
            result = parse(item)
            if field:
                found[field] = result
    if "env_file" in fields or "environment" in fields:
        found["environment"] = _environment(fields, variables, read_file)
    if "deploy" in fields:
        found |= deploy.deploy(fields["deploy"])
    made = Service(name, **found)
    if not made.image and made.build is None:
        raise value.fail_at_key(
            f"the service {name!r} has neither `image` nor `build`", "say where its image comes from"
        )
    return made


def _environment(
    fields: Mapping[str, Value], variables: Mapping[str, str], read_file: ReadFile
) -> dict[str, str]:
    """Later files win over earlier ones, ``environment`` over all."""
    found: dict[str, str] = {}
    if "env_file" in fields:
        item = fields["env_file"]
        for part in [item] if item.is_mapping else item.each():
            found |= _env_file(part, variables, read_file)
    if "environment" in fields:
        found |= environment(fields["environment"], variables)
    return found


def _env_file(value: Value, variables: Mapping[str, str], read_file: ReadFile) -> dict[str, str]:
    name, required = value, True
    if value.is_mapping:
        parts = value.fields({"path", "required"}, {"format"})
        if "path" not in parts:
            raise value.fail(f"{value.path} needs a path")
        name, required = parts["path"], parts["required"].boolean() if "required" in parts else True
    file = name.text()
    try:
        return parse_env(read_file(file), variables)
    except FileNotFoundError as error:
        if not required:
            return {}
        raise name.fail(f"the env_file {file[:100]!r} does not exist") from error
    except OSError as error:
        raise name.fail(f"the env_file {file[:100]!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise name.fail(f"the env_file {file[:100]!r}: {error}") from error


def _build(value: Value) -> Build:
    if not value.is_mapping:
        return Build(value.text())
    known = {"context", "dockerfile", "dockerfile_inline", "args", "target", "labels"}
    found = value.fields(known, _BUILD_LATER)
    if "dockerfile" in found and "dockerfile_inline" in found:
        raise found["dockerfile_inline"].fail_at_key("give either dockerfile or dockerfile_inline")
    return Build(
        found["context"].text() if "context" in found else ".",
        found["dockerfile"].text() if "dockerfile" in found else "Dockerfile",
        found["dockerfile_inline"].text() if "dockerfile_inline" in found else None,
        mapping(found["args"]) if "args" in found else {},
        found["target"].text() if "target" in found else None,
        mapping(found["labels"]) if "labels" in found else {},
    )


def _matching(pattern: re.Pattern[str], what: str, hint: str) -> Callable[[Value], str]:
    def parse(value: Value) -> str:
        text = value.text()
        if not pattern.fullmatch(text):
            raise value.fail(f"not {what}: {text[:60]!r}", hint)
        return text

    return parse


def _capabilities(value: Value) -> tuple[str, ...]:
    for item in value.each():
        if item.text().upper().removeprefix("CAP_") not in (*capabilities.NAMES, "ALL"):
            raise item.fail(f"unknown capability {item.text()[:40]!r}", "e.g. NET_ADMIN")
    return texts(value)


def _extra_hosts(value: Value) -> dict[str, str]:
    if value.is_mapping or value.is_null:
        return mapping(value)
    found = {}
    for item in value.each():
        host, sign, address = (
            re.split(r"([=:])", item.text(), maxsplit=1) if re.search("[=:]", item.text()) else ("",) * 3
        )
        if not host or not sign or not address:
            raise item.fail(f"not HOST=ADDRESS: {item.text()[:60]!r}")
        found[host] = address
    return found


_OTHER = {"env_file", "environment", "deploy"}
_KEYS: dict[str, tuple[str, Callable[[Value], Any]]] = {
    "image": ("image", Value.text),
    "build": ("build", _build),
    "command": ("command", words),
    "entrypoint": ("entrypoint", words),
    "ports": ("ports", mounts.ports),
    "expose": ("expose", mounts.exposed),
    "volumes": ("volumes", mounts.volumes),
    "depends_on": ("depends_on", depends_on),
    "healthcheck": ("healthcheck", healthcheck),
    "restart": (
        "restart",
        _matching(_RESTART, "a restart policy", "no, always, unless-stopped or on-failure[:N]"),
    ),
    "scale": ("replicas", deploy.replicas),
    "cpus": ("cpus", deploy.cpus),
    "mem_limit": ("memory", deploy.size),
    "pids_limit": ("pids", deploy.count),
    "labels": ("labels", mapping),
    "user": ("user", Value.text),
    "working_dir": ("working_dir", path),
    "hostname": ("hostname", _matching(_HOST, "a host name", "use letters, digits, '-' and '.'")),
    "stop_signal": ("stop_signal", _matching(_SIGNAL, "a signal", "e.g. SIGTERM")),
    "stop_grace_period": ("stop_grace_period", deploy.duration),
    "read_only": ("read_only", Value.boolean),
    "cap_add": ("cap_add", _capabilities),
    "cap_drop": ("cap_drop", _capabilities),
    "extra_hosts": ("extra_hosts", _extra_hosts),
    "tmpfs": ("tmpfs", mounts.tmpfs),
    "profiles": ("", texts),
    "networks": ("networks", networks.uses),
    "configs": ("configs", files.configs),
    "secrets": ("secrets", files.secrets),
    "shm_size": ("shm_size", deploy.size),
    "pull_policy": ("", Value.text),
    "x-slipway": ("x_slipway", deploy.traits),
}
