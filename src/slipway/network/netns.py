"""Network namespaces with a name: bind mounts that outlive the processes in them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from slipway.base import linux
from slipway.base.process import run

_OWN = Path("/proc/self/ns/net")


async def create(path: Path) -> None:
    """A fresh namespace at ``path``, its loopback up. A leftover there goes first."""
    delete(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        # In a child of its own: unshare would move the server itself.
        await run(["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"])
    except BaseException:
        delete(path)
        raise


def delete(path: Path) -> None:
    """Idempotent; the namespace goes when its last process does."""
    while True:
        try:
            linux.umount2(path, linux.MNT_DETACH)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            break
    path.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Whether ``path`` is a network namespace, and not the one we are in: nobody may take that apart."""
    try:
        found, own = os.stat(path), os.stat(_OWN)
    except FileNotFoundError:
        return False
    return found.st_dev == own.st_dev and found.st_ino != own.st_ino
