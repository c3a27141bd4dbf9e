"""A user namespace for everything but the first process.

The first process of the container stays what the container started it as, waits, and reaps. The second one, which does
the work, is root of a user namespace whose ids are nobody's outside: it may mount and unshare in there, and has no
right to anything of the node, not even what the container's root has.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from slipway.base import linux
from slipway.build.pods.forms import ID_SLOTS
from slipway.errors import Unsupported

_FIRST, _COUNT = 0x2000_0000, 65536
_WHOLE = 1 << 31
_FEWEST = 65535  # up to that of "nobody", as images have it


@dataclass(frozen=True, slots=True)
class Ids:
    """``count`` ids of this container's from ``start`` up."""

    start: int
    count: int

    @classmethod
    def unused(cls, slot: int | None = None) -> Ids:
        """Such as nobody has: some at random, or always the same for one ``slot``. Raises ``Unsupported``."""
        found = cls(*_range(Path("/proc/self/uid_map").read_text(), slot))
        if found.count < _FEWEST:
            raise _refused(f"it has no more than {found.count} ids to give away")
        return found


def run_inside(work: Callable[[], int], ids: Ids, own: Sequence[Path]) -> int:
    """``work``'s exit code, run as root of a fresh user namespace that the directories ``own`` are given to.

    Raises ``Unsupported`` where this container may not make one.
    """
    start, count = ids.start, ids.count
    for path in own:
        _give(path, start)
    asked, tell_asked = os.pipe()
    mapped, tell_mapped = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell_mapped)
        os.close(asked)
        _become(work, tell_asked, mapped)
    os.close(mapped)
    os.close(tell_asked)
    said = os.read(asked, 200)
    if said != b"u":
        raise _refused(said.decode(errors="replace"))
    try:
        for file in ("gid_map", "uid_map"):
            Path(f"/proc/{child}/{file}").write_text(f"0 {start} {count}\n")
    except OSError as error:
        raise _refused(f"its ids could not be mapped: {error.strerror}") from error
    os.write(tell_mapped, b"m")
    return _reap(child)


def id_count() -> int:
    """How many ids there are, from 0 up, in the namespace we are in. Raises ``Unsupported`` when root is outside's."""
    inside, outside, count = (int(word) for word in Path("/proc/self/uid_map").read_text().split()[:3])
    if inside != 0 or outside == 0:
        raise Unsupported(
            "this worker is not in a user namespace of its own: a RUN would be a real root",
            hint="the Pod must be allowed to make user namespaces",
        )
    return count


def _give(path: Path, owner: int) -> None:
    """Raises ``Unsupported`` for a directory that this container's root may not give away."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if path.stat().st_uid != owner:
            path.chmod(0o700)  # before it is somebody else's: the container's root has no right to that
            os.chown(path, owner, owner)
    except OSError as error:
        raise _refused(f"{path}: {error.strerror}") from error


def _range(text: str, slot: int | None) -> tuple[int, int]:
    """Where ids begin that are nobody's, and how many; in a container that has few, all but its root's."""
    lines = [[int(word) for word in line.split()] for line in text.splitlines()]
    there = sum(count for _, _, count in lines)
    if there >= _WHOLE:
        return _FIRST + _COUNT * (secrets.randbelow(ID_SLOTS) if slot is None else slot), _COUNT
    first, _, count = lines[0]
    return first + 1, min(count - 1, _COUNT)


def _become(work: Callable[[], int], tell: int, mapped: int) -> NoReturn:
    code = 1
    try:
        try:
            linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        except OSError as error:
            os.write(tell, (error.strerror or "").encode()[:200])
            os._exit(1)
        os.write(tell, b"u")
        os.close(tell)
        if os.read(mapped, 1) != b"m":
            os._exit(1)
        os.close(mapped)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the ids: changing them clears it
        id_count()
        code = work()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _reap(child: int) -> int:
    """Wait for ``child``, and as process 1 for all that comes to it. SIGTERM ends this process, and so the child."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(143))
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _refused(why: str) -> Unsupported:
    return Unsupported(
        f"this container may not make a user namespace: {why or 'it ended'}",
        hint="seccompProfile Unconfined and the capabilities SETUID, SETGID and CHOWN are needed, nothing more",
    )
