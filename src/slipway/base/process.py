"""The one gateway for subprocesses.

Explicit environment, fixed locale, no inherited standard input, and a copy-pasteable command line in the
error. Nothing here goes through a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Failed, Unavailable

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE_ENVIRONMENT = {"PATH": SAFE_PATH, "LC_ALL": "C.UTF-8"}
OUTPUT_IN_ERROR = 4096


@dataclass(frozen=True, slots=True)
class Completed:
    """What a finished command left: its exit status (negative: the signal) and its output."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes


class CommandFailed(Failed):
    """A command ended with a status other than 0."""

    def __init__(self, done: Completed) -> None:
        tail = (done.stderr or done.stdout)[-OUTPUT_IN_ERROR:].decode(errors="replace").strip()
        name = os.path.basename(done.argv[0])
        super().__init__(
            f"{name} ended with status {done.returncode}: {tail or 'no output'}",
            hint=f"the command was: {shlex.join(done.argv)}",
            command=list(done.argv),
            status=done.returncode,
        )
        self.completed = done


async def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    cwd: Path | str | None = None,
    timeout: float | None = None,
    check: bool = True,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run ``argv`` to its end and return its output.

    ``env`` is added to a fixed base environment; nothing of ours is inherited. Cancelling the caller, or
    ``timeout`` seconds passing, kills the command's whole process group. Raises ``CommandFailed`` when
    ``check`` is set and the status is not 0, ``Unavailable`` when the program is missing or too slow.
    """
    words = tuple(os.fspath(word) for word in argv)
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**BASE_ENVIRONMENT, **(env or {})},
            cwd=cwd,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _missing(words[0]) from error
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(stdin)
    except TimeoutError as error:
        await _kill(process)
        raise Unavailable(
            f"{os.path.basename(words[0])} did not finish within {timeout:g} s",
            hint=f"the command was: {shlex.join(words)}",
        ) from error
    except BaseException:
        await _kill(process)
        raise
    done = Completed(words, process.returncode if process.returncode is not None else -1, out, err)
    if check and done.returncode != 0:
        raise CommandFailed(done)
    return done


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


def run_sync(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """``run`` for code that is already in a worker thread or has no event loop."""
    words = tuple(os.fspath(word) for word in argv)
    try:
        result = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**BASE_ENVIRONMENT, **(env or {})},
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _missing(words[0]) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{os.path.basename(words[0])} did not finish within {timeout:g} s") from error
    done = Completed(words, result.returncode, result.stdout, result.stderr)
    if check and done.returncode != 0:
        raise CommandFailed(done)
    return done


def _missing(program: str) -> Unavailable:
    return Unavailable(
        f"the program {program!r} is not installed",
        hint="`slipway doctor` lists what this host lacks and the packages that bring it",
    )
