"""What a COPY came to last time, so that looking at every file again can be left to one pass of a compiled program.

A copy's key is a function of what is copied, of the instruction and of the root it is copied onto. Stages and images
are known by their chains. A directory is known by what the kernel says of everything in it: names, kinds, modes,
owners, sizes, inodes, and the times of the last change, which nobody can set back. While anything in it changed within
the last two seconds, it could change again with the same times, and nothing is remembered.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections import OrderedDict

_SETTLED_SECONDS = 2
_FACTS = r"%P\0%y%m %U %G %s %i %D %T@ %C@ %l\0"
_FRESH = b"\0fresh\0"
_REMEMBERED = 10_000


class Remembered:
    """Keys of copies by what they depend on; the most recent ten thousand."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, str] = OrderedDict()

    def get(self, facts: bytes) -> str | None:
        key = self._keys.get(facts)
        if key is not None:
            self._keys.move_to_end(facts)
        return key

    def put(self, facts: bytes, key: str) -> None:
        self._keys[facts] = key
        if len(self._keys) > _REMEMBERED:
            self._keys.popitem(last=False)


def fingerprint(directory: int) -> bytes | None:
    """The facts of all that is below an open directory; ``None`` if it is still changing or cannot be looked at."""
    settled = int(time.time()) - _SETTLED_SECONDS
    argv = [
        "find", ".", "-mindepth", "1", "(", "-newerct", f"@{settled}", "-printf", r"\0fresh\0", "-quit", ")",
        "-o", "-printf", _FACTS,
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, cwd=f"/proc/self/fd/{directory}", capture_output=True, check=False)
    except OSError:
        return None
    if done.returncode or done.stdout.endswith(_FRESH):
        return None
    return hashlib.sha256(done.stdout).digest()
