"""Switching a node on and off."""

from __future__ import annotations

import socket
import sys
import time

from slipway.errors import Unavailable
from slipway.testing.kubernetes import groups, network
from slipway.testing.kubernetes.site import CONTAINERD, KUBELET, Node

_PROGRAM = "slipway.testing.kubernetes.machine"
_START_SECONDS = 30.0


def start(node: Node) -> None:
    """Start ``node``, whose network and files are there; returns when its containerd answers.

    Raises ``Unavailable`` when that takes too long.
    """
    KUBELET.mkdir(parents=True, exist_ok=True)
    pid, log = node.directory / "pid", node.directory / "machine.log"
    pid.unlink(missing_ok=True)
    groups.start(node.group, [sys.executable, "-m", _PROGRAM, node.name], log)
    end = time.monotonic() + _START_SECONDS
    while not (pid.exists() and _answers(int(pid.read_text() or 0))):
        if time.monotonic() > end:
            raise Unavailable(f"{node.name} does not start", hint=f"see {log}")
        time.sleep(0.05)


def _answers(pid: int) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/{pid}/root{CONTAINERD}")
    except OSError:
        return False
    return True


def cut(node: Node) -> None:
    """Nobody hears of the node again, and its processes and Pods end without a word."""
    network.cut(node)
    groups.kill(node.group)
    network.unplug(node)
