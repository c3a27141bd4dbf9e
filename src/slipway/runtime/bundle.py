"""config.json for the OCI runtime, with Docker's defaults. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.base import capabilities
from slipway.base.seccomp import default_profile
from slipway.errors import Invalid
from slipway.runtime.spec import ContainerSpec, Mount
from slipway.snapshots.accounts import Account

_PERIOD = 100_000
_MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_SYSTEM: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {
        "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["ro", "nosuid", "noexec", "nodev"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {
        "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
    },
)  # fmt: skip


def configuration(
    spec: ContainerSpec,
    account: Account,
    rootfs: Path,
    netns: Path,
    container: str,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """The runtime's configuration. ``files``: host files by the path in the container they are mounted at."""
    caps = _capabilities(spec)
    env = dict(spec.env)
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env.setdefault("HOSTNAME", spec.hostname or container[:12])
    env.setdefault("HOME", account.home)
    names = [f"CAP_{name}" for name in caps]
    return {
        "ociVersion": "1.0.2",
        "hostname": spec.hostname or container[:12],
        "root": {"path": str(rootfs), "readonly": spec.read_only},
        "process": {
            "terminal": False,
            "user": {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.groups)},
            "args": list(spec.argv),
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": spec.cwd or "/",
            "capabilities": {
                "bounding": names,
                "effective": names if account.uid == 0 else [],
                "permitted": names if account.uid == 0 else [],
            },
            "noNewPrivileges": False,
        },
        "mounts": [*_SYSTEM, *(_file(source, target) for target, source in files.items()), *map(_mount, spec.mounts)],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
                {"type": "network", "path": str(netns)},
            ],
            "cgroupsPath": f"/slipway/containers/{container}",
            "resources": _resources(spec),
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
            "seccomp": default_profile(caps),
        },
    }  # fmt: skip


def _capabilities(spec: ContainerSpec) -> list[str]:
    added = {name.upper().removeprefix("CAP_") for name in spec.cap_add}
    dropped = {name.upper().removeprefix("CAP_") for name in spec.cap_drop}
    unknown = (added | dropped) - set(capabilities.NAMES) - {"ALL"}
    if unknown:
        raise Invalid(f"unknown capability {sorted(unknown)[0]!r}", hint="e.g. NET_ADMIN")
    found = set(capabilities.NAMES) if "ALL" in added else set(capabilities.DEFAULT)
    found = (set() if "ALL" in dropped else found - dropped) | (added - {"ALL"})
    return [name for name in capabilities.NAMES if name in found]


def _mount(mount: Mount) -> dict[str, Any]:
    if mount.kind == "tmpfs":
        options = ["nosuid", "nodev", "noexec", "mode=1777", *(["ro"] if mount.read_only else [])]
        return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}
    options = ["rbind", "rprivate", "ro" if mount.read_only else "rw"]
    return {"destination": mount.target, "type": "bind", "source": mount.source, "options": options}


def _file(source: Path, target: str) -> dict[str, Any]:
    return {
        "destination": target,
        "type": "bind",
        "source": str(source),
        "options": ["rbind", "rprivate", "rw"],
    }


def _resources(spec: ContainerSpec) -> dict[str, Any]:
    limits = spec.resources
    found: dict[str, Any] = {"devices": _devices()}
    if limits.memory:
        found["memory"] = {"limit": limits.memory}
    if limits.cpus:
        found["cpu"] = {"quota": int(limits.cpus * _PERIOD), "period": _PERIOD}
    if limits.pids:
        found["pids"] = {"limit": limits.pids}
    return found


def _devices() -> list[dict[str, Any]]:
    """Nothing but what every container may touch."""
    allowed = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": "c", "major": a, "minor": b, "access": "rwm"} for a, b in allowed]
    rules += [{"allow": True, "type": "c", "major": 136, "access": "rwm"}]
    rules += [{"allow": True, "type": kind, "access": "m"} for kind in "cb"]
    return rules
