"""One RUN: from a fork of the worker to an ``execve`` inside the build's root."""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NoReturn

from slipway.base import linux
from slipway.build.worker.command import execute
from slipway.build.worker.confine import confine
from slipway.build.worker.root import Root
from slipway.build.worker.system import mount_system

_PRIVATE = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP


def become_command(
    leash: socket.socket, output: list[int], specification: dict[str, Any], user_ns: int, netns: int
) -> NoReturn:
    """Never returns. What goes wrong before the command's turn is said on the leash, the rest on its stderr."""
    try:
        os.setsid()
        _enter_groups(specification["cgroups"])
        _unprotected()
        linux.unshare(_PRIVATE)
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        socket.sethostname(specification["hostname"])
        if not _is_here(netns):
            linux.setns(netns, linux.CLONE_NEWNET)
        root = Root(specification, user_ns)
        root.mount()
        mount_system(root, specification)
        root.attach()
        root.enter()
        _take_output(output, specification)
        if user_ns >= 0:
            linux.setns(user_ns, linux.CLONE_NEWUSER)
        confine(specification)
    except BaseException as error:
        leash.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        os._exit(1)
    execute(specification["argv"], specification["env"], specification["cwd"])


def _is_here(netns: int) -> bool:
    """Whether this is our network namespace: a worker in a user namespace may stay in its host's, but not enter it."""
    return os.path.samestat(os.fstat(netns), os.stat("/proc/self/ns/net"))


def _enter_groups(entries: list[str]) -> None:
    """Only steps are in the build's group: its limits can hit nobody but them."""
    for file in entries:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)


def _unprotected() -> None:
    """A server that the kernel is told to spare when memory is short does not pass that on."""
    with open("/proc/self/oom_score_adj", "r+") as handle:
        if int(handle.read()) < 0:
            handle.write("0")


def _take_output(output: list[int], specification: dict[str, Any]) -> None:
    """The three standard descriptors; the command's user may open its output again through /dev/stdout."""
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    for source, target in zip(output, (1, 2), strict=True):
        os.fchown(source, specification["uid_base"] + specification["uid"], -1)
        os.dup2(source, target)
