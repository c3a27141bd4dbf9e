"""The worker's main loop. Runs as root in the initial user namespace, single-threaded."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
from typing import Any

from slipway.base import capabilities, linux, seccomp
from slipway.build.worker.holder import start_holder
from slipway.build.worker.step import run_step

MAX_MESSAGE = 1024 * 1024


def main(arguments: str) -> None:
    """``arguments``: JSON with ``socket``, ``uid_base``, ``uid_count``, ``cgroups`` and ``stage``."""
    options = json.loads(arguments)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    for file in options["cgroups"]:
        with open(file, "w") as handle:
            handle.write("0")
    control = socket.socket(fileno=options["socket"])
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWPID)
    worker = os.fork()
    if worker:
        control.close()
        os._exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) & 0xFF)
    # From here on this is process 1 of the build's pid namespace: when it ends, everything in it ends.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc")
    holder = start_holder(options["uid_base"], options["uid_count"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # steps report by message; nobody waits for them
    _announce(control, holder)
    program = seccomp.compile_profile(seccomp.default_profile(capabilities.DEFAULT))
    while True:
        message, descriptors = _receive(control)
        if message is None:
            os._exit(0)
        request: dict[str, Any] = json.loads(message)["run"]
        if os.fork() == 0:
            run_step(control, request, descriptors, holder, options, program)
        for fd in descriptors:
            os.close(fd)


def _announce(control: socket.socket, holder: int) -> None:
    """Tell the server that RUNs can come, and hand it the network namespace."""
    with open(f"/proc/{holder}/ns/net") as netns:
        socket.send_fds(control, [json.dumps({"ready": holder}).encode()], [netns.fileno()])


def _receive(control: socket.socket) -> tuple[bytes | None, list[int]]:
    """One message and its descriptors; ``None`` when the server is gone."""
    room = socket.CMSG_SPACE(2 * array.array("i").itemsize)
    try:
        data, ancillary, _flags, _address = control.recvmsg(MAX_MESSAGE, room)
    except ConnectionError:
        return None, []
    found = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    return data or None, list(found)


if __name__ == "__main__":
    main(sys.argv[1])
