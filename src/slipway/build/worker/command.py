"""The last part of a step: a clean process image, then the command."""

from __future__ import annotations

import errno
import os
import signal
from typing import NoReturn

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def execute(argv: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """Become ``argv``; if that fails, say why as Docker does and end with its exit code."""
    try:
        # First of all, so that no working directory and no program can be named through a descriptor of ours.
        os.closerange(3, 0x7FFFFFFF)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
    except BaseException as error:
        _give_up(f"the command could not be prepared: {error}", _NOT_EXECUTABLE)
    try:
        os.chdir(cwd or "/")
    except OSError as error:
        _give_up(f"cannot go to the working directory {cwd!r}: {_reason(error)}", _code(error))
    failure = _try_candidates(argv, env)
    if failure.errno == errno.ENOENT and "/" not in argv[0]:
        _give_up(f"exec: {argv[0]!r}: executable file not found in $PATH", _NOT_FOUND)
    _give_up(f"exec: {argv[0]!r}: {_reason(failure)}", _code(failure))


def _try_candidates(argv: list[str], env: dict[str, str]) -> OSError:
    """Try what ``argv[0]`` may stand for; the error that says most about why none of it worked."""
    name = argv[0]
    path = env.get("PATH", _DEFAULT_PATH).split(":")
    candidates = [name] if "/" in name else [f"{directory or '.'}/{name}" for directory in path]
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for candidate in candidates if name else []:
        try:
            os.execve(candidate, argv, env)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR) or "/" in name:
                failure = error
        except ValueError as error:  # a NUL byte
            failure = OSError(errno.EINVAL, str(error))
    return failure


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOEXEC:
        return "exec format error (built for another platform, or a script without an interpreter line?)"
    return (error.strerror or str(error)).lower()


def _code(error: OSError) -> int:
    return _NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else _NOT_EXECUTABLE


def _give_up(text: str, code: int) -> NoReturn:
    try:
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(code)
