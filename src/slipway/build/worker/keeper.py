"""The process between the worker and a step: waits for it, kills it on request, says how it ended."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from typing import Any, NoReturn

from slipway.base import linux
from slipway.build.worker.step import become_command


def keep(
    leash: socket.socket, output: list[int], specification: dict[str, Any], user_ns: int, netns: int
) -> NoReturn:
    """Never returns. The step is process 1 of a pid namespace of its own: what it leaves behind dies with it."""
    try:
        linux.unshare(linux.CLONE_NEWPID)
        step = os.fork()
        if step == 0:
            become_command(leash, output, specification, user_ns, netns)
        for fd in output:
            os.close(fd)
        status = _wait(leash, step)
        _say(leash, {"status": status})
    except BaseException as error:
        _say(leash, {"error": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _wait(leash: socket.socket, step: int) -> int:
    """The step's status; hanging up the leash kills it. Returns when nothing of the step is left."""
    poll = select.poll()
    poll.register(leash, select.POLLIN)
    poll.register(ended := os.pidfd_open(step), select.POLLIN)
    if ended not in [fd for fd, _ in poll.poll()]:
        os.kill(step, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(step, 0)[1])


def _say(leash: socket.socket, message: dict[str, Any]) -> None:
    try:
        leash.send(json.dumps(message).encode())
    except OSError:
        os._exit(1)
