"""Whether this machine can run another architecture's programs: by itself, or through the kernel's binfmt_misc."""

from __future__ import annotations

from pathlib import Path

from slipway.oci import Platform

_REGISTERED = Path("/proc/sys/fs/binfmt_misc")
_NATIVE = {"amd64": ("386",), "arm64": ("arm",)}
_QEMU = {
    "386": "i386", "amd64": "x86_64", "arm": "arm", "arm64": "aarch64", "ppc64le": "ppc64le", "riscv64": "riscv64",
    "s390x": "s390x", "mips64le": "mips64el", "loong64": "loongarch64",
}  # fmt: skip


def can_run(platform: Platform, registered: Path = _REGISTERED) -> bool:
    """An interpreter must have been opened when it was registered (flag F): inside an image there is none."""
    host = Platform.host().architecture
    if platform.os != "linux":
        return False
    if platform.architecture == host or platform.architecture in _NATIVE.get(host, ()):
        return True
    name = _QEMU.get(platform.architecture)
    if name is None:
        return False
    try:
        text = (registered / f"qemu-{name}").read_text()
    except OSError:
        return False
    lines = text.splitlines()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags:")), "")
    return "enabled" in lines[:1] and "F" in flags
