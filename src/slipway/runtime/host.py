"""What this machine can do, and which OCI runtime works on it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipway.base.cgroups import layout
from slipway.base.process import run
from slipway.errors import Unsupported

_CAP_SYS_RESOURCE = 24
_PROGRAMS = {
    "conmon": "conmon", "haproxy": "haproxy", "iptables": "iptables", "ip": "iproute2", "nsenter": "util-linux",
    "mmdebstrap": "mmdebstrap",
}  # fmt: skip
_HELPERS = {"netavark": "netavark", "aardvark-dns": "aardvark-dns"}
_HELPER_PATHS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/bin")
# Fixed in upstream's runc 1.1.14; Debian carries the fixes in earlier versions of its own numbering.
_SAFE_RUNC = (1, 1, 14)
_DEBIAN_RUNC = "1.1.5+ds1-1+deb12u1"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact about the host: what is so, and what to do about it if it is not well."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found: the runtime to use and everything the doctor shows."""

    runtime: str
    version: str
    cgroups: str
    may_raise_limits: bool
    checks: tuple[Check, ...]

    @classmethod
    async def probe(cls, addresses: Sequence[str] = ()) -> HostFacts:
        """Look at everything; nothing is changed. A host without a working runtime gives an empty ``runtime``."""
        cgroups = layout()
        runtime, version, runtime_check = await _find_runtime()
        capable = _has_capability(_CAP_SYS_RESOURCE)
        checks = [
            Check("root", "ok", "running as root") if os.geteuid() == 0
            else Check("root", "fail", f"running as uid {os.geteuid()}", "run as root"),
            Check("cgroups", "ok", f"layout {cgroups}") if cgroups != "none"
            else Check("cgroups", "fail", "no control groups are mounted", "mount /sys/fs/cgroup"),
            runtime_check,
            *_overlay_and_namespaces(),
            Check("limits", "ok", "limits can be raised") if capable
            else Check("limits", "warn", "CAP_SYS_RESOURCE is missing: resource limits and OOM scores are clamped"),
            *_programs(),
            *(_port(address) for address in addresses),
        ]  # fmt: skip
        return cls(runtime, version, cgroups, capable, tuple(checks))

    def require_runtime(self) -> str:
        if not self.runtime:
            raise Unsupported("no OCI runtime works on this host", hint="`slipway doctor` says why")
        return self.runtime


async def _find_runtime() -> tuple[str, str, Check]:
    """The first runtime that really runs a container here, runc before crun."""
    problems = []
    for name in ("runc", "crun"):
        path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if path is None:
            problems.append(f"{name} is not installed")
            continue
        problem = await _try_runtime(path)
        if problem:
            problems.append(f"{name}: {problem}")
            continue
        version = (await run([path, "--version"])).stdout.decode().splitlines()[0].split()[-1]
        return path, f"{name} {version}", await _judge(name, version)
    return "", "", Check("runtime", "fail", "; ".join(problems), "apt-get install runc")


async def _judge(name: str, version: str) -> Check:
    numbers = tuple(
        int(part) for part in version.split("+")[0].split("-")[0].split(".")[:3] if part.isdigit()
    )
    if name != "runc" or numbers >= _SAFE_RUNC:
        return Check("runtime", "ok", f"{name} {version}")
    installed = (await run(["dpkg-query", "-W", "-f", "${Version}", "runc"], check=False)).stdout.decode()
    if installed:
        newest = await run(["dpkg", "--compare-versions", installed, "ge", _DEBIAN_RUNC], check=False)
        if newest.returncode == 0:
            return Check("runtime", "ok", f"runc {version} (Debian's {installed}, with its security fixes)")
    return Check(
        "runtime", "warn", f"runc {version} has known escapes (CVE-2024-21626 and later)", "upgrade runc"
    )


async def _try_runtime(path: str) -> str:
    """Run a container whose process cannot exist: getting as far as looking for it shows that the rest works."""
    with tempfile.TemporaryDirectory(prefix="slipway-probe-") as bundle:
        (Path(bundle) / "rootfs").mkdir()
        config = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["/nothing"], "user": {"uid": 0, "gid": 0}, "env": []},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "cgroupsPath": f"/slipway/probe-{os.getpid()}",
                "resources": {"pids": {"limit": 100}, "memory": {"limit": 64 << 20}},
            },
        }
        (Path(bundle) / "config.json").write_text(json.dumps(config))
        name = f"slipway-probe-{os.getpid()}"
        done = await run(
            [path, "--root", f"{bundle}/state", "run", "-b", bundle, name], check=False, timeout=20
        )
        await run([path, "--root", f"{bundle}/state", "delete", "-f", name], check=False)
        text = done.stderr.decode(errors="replace")
        expected = ("no such file or directory", "executable file", "/nothing")
        return "" if any(word in text for word in expected) else text.strip()[-300:]


def _overlay_and_namespaces() -> list[Check]:
    filesystems = Path("/proc/filesystems").read_text()
    kernel = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    spaces = Path("/proc/sys/user/max_user_namespaces")
    allowed = spaces.exists() and int(spaces.read_text()) > 0
    return [
        Check("overlay", "ok", "the kernel has overlay") if "overlay" in filesystems
        else Check("overlay", "fail", "the kernel has no overlay", "modprobe overlay"),
        Check("user namespaces", "ok", "available") if allowed
        else Check("user namespaces", "fail", "none may be made", "sysctl user.max_user_namespaces=65536"),
        Check("id-mapped mounts", "ok", f"kernel {os.uname().release}") if kernel >= (5, 19)
        else Check("id-mapped mounts", "fail", f"kernel {os.uname().release} is older than 5.19", "upgrade the kernel"),
    ]  # fmt: skip


def _programs() -> list[Check]:
    found = []
    for name, package in _PROGRAMS.items():
        there = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        found.append(_installed(name, package, bool(there)))
    for name, package in _HELPERS.items():
        found.append(
            _installed(name, package, any(os.access(f"{path}/{name}", os.X_OK) for path in _HELPER_PATHS))
        )
    return found


def _installed(name: str, package: str, there: bool) -> Check:
    return (
        Check(name, "ok", "installed")
        if there
        else Check(name, "fail", "not installed", f"apt-get install {package}")
    )


def _port(address: str) -> Check:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            return Check(
                f"port {port}", "warn", f"{address}: {error.strerror}", "fine if it is Slipway's own"
            )
    return Check(f"port {port}", "ok", f"{address} is free")


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
