"""One RUN: from a fork of the worker to an exec inside the build's root."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from slipway.base import capabilities, linux, seccomp
from slipway.build.worker.root import enter_root, mount_layers, mount_system

_LIBC = ctypes.CDLL(None, use_errno=True)
_ALL = (1 << 41) - 1


def run_step(
    control: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    holder: int,
    options: dict[str, Any],
    program: bytes,
) -> NoReturn:
    """Never returns: reports ``done`` or ``failed`` and ends."""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        namespaces = {
            name: os.open(f"/proc/{holder}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for name in ("user", "ipc", "net", "uts", "cgroup")
        }
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        _as_owner(options["uid_base"], lambda: mount_layers(request, options, namespaces["user"]))
        for name in ("ipc", "net", "uts", "cgroup"):
            linux.setns(namespaces[name])
        status = _in_own_pid_namespace(
            descriptors, lambda: _child(request, descriptors, options, namespaces["user"], program)
        )
        _report(control, {"done": request["id"], "status": status})
    except BaseException as error:
        _report(control, {"failed": request["id"], "error": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _in_own_pid_namespace(descriptors: list[int], child: Callable[[], NoReturn]) -> int:
    """Run ``child`` in a fresh pid namespace below the worker's; its exit status.

    Process 1 there is ours and only waits: when ``child`` ends, or the worker dies, it ends and takes with it whatever
    the RUN left behind.
    """
    answer, tell = os.pipe()
    linux.unshare(linux.CLONE_NEWPID)
    if os.fork() == 0:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        process = os.fork()
        if process == 0:
            child()
        for fd in descriptors:
            os.close(fd)
        while (ended := os.wait())[0] != process:
            pass
        os.write(tell, str(os.waitstatus_to_exitcode(ended[1])).encode())
        os._exit(0)
    os.close(tell)
    for fd in descriptors:
        os.close(fd)
    status = os.read(answer, 16)
    os.wait()
    if not status:
        raise OSError("the step's process was lost")
    return int(status)


def _report(control: socket.socket, message: dict[str, Any]) -> None:
    try:
        control.send(json.dumps(message).encode())
    except OSError:
        os._exit(1)


def _as_owner(uid: int, action: Any) -> None:
    """Run ``action`` with the file system ids of the worker's root.

    An overlay creates its internal files as whoever mounted it, and an id-mapped upper directory has no place for the
    machine's own root. The capabilities that changing these ids takes away are put back.
    """
    _LIBC.setfsgid(uid)
    _LIBC.setfsuid(uid)
    permitted = _permitted()
    linux.set_capabilities(permitted, permitted, 0)
    try:
        action()
    finally:
        _LIBC.setfsuid(0)
        _LIBC.setfsgid(0)


def _permitted() -> int:
    with open("/proc/self/status") as handle:
        for line in handle:
            if line.startswith("CapPrm:"):
                return int(line.split()[1], 16)
    return 0


def _child(
    request: dict[str, Any], descriptors: list[int], options: dict[str, Any], user_ns: int, program: bytes
) -> NoReturn:
    stderr = descriptors[1]
    try:
        os.setsid()
        mount_system(request, options)
        enter_root()
        linux.setns(user_ns)
        _limit(request, program)
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (descriptors[0], 1), (descriptors[1], 2)):
            os.dup2(source, target)
        os.closerange(3, 65536)
        stderr = 2
        os.umask(0o022)
        os.chdir(request["cwd"])
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(number, signal.SIG_DFL)
        os.execvpe(request["argv"][0], request["argv"], dict(request["env"]))
    except BaseException as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        os.write(stderr, f"cannot run {request['argv'][0]!r}: {error}\n".encode())
        os._exit(code)


def _limit(request: dict[str, Any], program: bytes) -> None:
    """Docker's default capabilities and system calls, then the user; nothing can be won back after this."""
    keep = [capabilities.NUMBERS[name] for name in capabilities.DEFAULT]
    linux.limit_capabilities(keep)
    seccomp.install(program)
    os.setgroups(request["groups"])
    os.setresgid(request["gid"], request["gid"], request["gid"])
    os.setresuid(request["uid"], request["uid"], request["uid"])
    mask = capabilities.mask(capabilities.DEFAULT) if request["uid"] == 0 else 0
    linux.set_capabilities(mask, mask, 0)
