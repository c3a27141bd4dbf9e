"""A host network of a test's own: what it does to bridges, rules and ports is seen by nobody else."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from slipway.base import linux

_COUNTERS = re.compile(r"\[\d+:\d+\]|^#.*$", re.MULTILINE)


@contextmanager
def own_host_network() -> Iterator[None]:
    """Everything this thread does and starts happens in a fresh network namespace with a loopback device.

    Only the calling thread: what runs in a pool of threads stays outside.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNET)
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield
    finally:
        linux.setns(before, linux.CLONE_NEWNET)
        os.close(before)


def rules() -> str:
    """The packet filter, without counters and comments. Tables nobody put anything into do not show."""
    saved = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
    lines = [line for line in _COUNTERS.sub("", saved).splitlines() if line.strip()]
    return "\n".join(line for line in lines if line.startswith("-A") or "NETAVARK" in line)


def links() -> set[str]:
    shown = subprocess.run(["ip", "-br", "link"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0].partition("@")[0] for line in shown.splitlines()}
