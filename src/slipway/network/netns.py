"""Network namespaces with a name: bind mounts that outlive the processes in them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from slipway.base import linux
from slipway.base.process import run


async def create(path: Path) -> None:
    """A fresh namespace at ``path``, its loopback up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    # In a child of its own: unshare would move the server itself.
    await run(["unshare", f"--net={path}", "ip", "link", "set", "lo", "up"])


def delete(path: Path) -> None:
    """Idempotent; the namespace goes when its last process does."""
    while True:
        try:
            linux.umount2(path, linux.MNT_DETACH)
        except OSError:
            break
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
