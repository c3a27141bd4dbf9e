"""The worker's main loop. Runs as root in the machine's own namespaces, single-threaded."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from typing import Any, NoReturn

from slipway.base import linux
from slipway.build.worker import holder, network
from slipway.build.worker.keeper import keep

_MESSAGE = 4096
_DESCRIPTORS = 4


class Worker:
    """What the worker has in its hands: the holder, its namespaces, the build's specification."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._build: dict[str, Any] = {}
        self._holder, self._life = 0, -1
        self._user_ns = -1
        self._networks: dict[str, int] = {}

    def run(self) -> NoReturn:
        """Serve until the server hangs up, then take everything along."""
        while True:
            data, descriptors = self._receive()
            if not data:
                break
            try:
                self._handle(json.loads(data)["op"], descriptors)
            except Exception as error:
                self._send({"error": f"{type(error).__name__}: {error}"})
            finally:
                for fd in descriptors:
                    with contextlib.suppress(OSError):
                        os.close(fd)
        if self._holder:
            os.kill(self._holder, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while (
                    True
                ):  # the holder's turn comes when everything in its pid namespace is gone, keepers, too
                    os.wait()
        os._exit(0)

    def _receive(self) -> tuple[bytes, list[int]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE, _DESCRIPTORS)
        except ConnectionError:
            return b"", []
        return data, descriptors

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the server is gone: the next receive says so
            self._control.send(json.dumps(message).encode())

    def _handle(self, operation: str, descriptors: list[int]) -> None:
        if operation == "start":
            self._start(descriptors)
        elif operation == "network":
            self._send({"netns": f"/proc/{os.getpid()}/fd/{self._network('default')}"})
        else:
            self._step(descriptors)

    def _start(self, descriptors: list[int]) -> None:
        self._build = _specification(descriptors[0])
        lock = os.dup(descriptors[1])  # held for as long as anything could own files in the range
        linux.unshare(
            linux.CLONE_NEWPID
        )  # the next child, the holder, is process 1 in it; the later ones follow
        build, in_place = self._build, bool(self._build["in_place"])
        self._holder, self._life = holder.start(
            build["uid_base"], build["uid_count"], lock, in_place=in_place
        )
        if not in_place:
            self._user_ns = os.open(f"/proc/{self._holder}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self._send({"ready": os.getpid()})

    def _network(self, name: str) -> int:
        if name not in self._networks:
            self._networks[name] = (
                os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                if name == "host"
                else network.create(self._user_ns)
            )
        return self._networks[name]

    def _step(self, descriptors: list[int]) -> None:
        """Fork the keeper of a step. Trouble before that is the step's, not the build's."""
        leash = socket.socket(fileno=os.dup(descriptors[3]))
        try:
            specification = _specification(descriptors[0])
            netns = self._network(specification["network"])
            child = os.fork()
            if child == 0:
                self._become_keeper(leash, descriptors[1:3], specification, netns)
            os.waitpid(child, 0)
        except Exception as error:
            leash.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        finally:
            leash.close()

    def _become_keeper(
        self, leash: socket.socket, output: list[int], specification: dict[str, Any], netns: int
    ) -> NoReturn:
        """Never returns. An orphan in the pid namespace is the holder's child, which never has zombies."""
        try:
            self._control.close()
            os.close(self._life)
            if os.fork() == 0:
                keep(leash, output, {**self._build, **specification}, self._user_ns, netns)
        finally:
            os._exit(0)


def _specification(fd: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    return found


def main(control_fd: int) -> NoReturn:
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    # No Python signal handler may run between a fork and an exec.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    Worker(control).run()
