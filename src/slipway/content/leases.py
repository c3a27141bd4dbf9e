"""Leases: digests that somebody is about to reference."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from slipway.base.ids import new_id
from slipway.oci import Digest


class Lease:
    """Protects what is added to it until it is released or its time is over.

    Add a digest *before* relying on the blob being there: then either the sweep sees the lease, or the caller sees
    that the blob is gone.
    """

    def __init__(self, directory: Path, owner: str, ttl: timedelta) -> None:
        self.id = new_id(16)
        self._path = directory / self.id
        self._held: set[Digest] = set()
        self._fd = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        end = time.time() + ttl.total_seconds()
        os.write(self._fd, f"{end:.0f} {owner}\n".encode())

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def add(self, digest: Digest) -> None:
        if digest not in self._held:
            os.write(self._fd, f"{digest}\n".encode())
            self._held.add(digest)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()


def leased(directory: Path) -> Iterator[Digest]:
    """Every digest under a lease that is not over; leases that are over are removed."""
    for path in sorted(directory.iterdir()):
        try:
            head, *lines = path.read_text().splitlines()
            if float(head.split(" ", 1)[0]) < time.time():
                path.unlink()
                continue
        except (FileNotFoundError, ValueError):
            continue  # released meanwhile, or being written right now and still empty
        yield from (Digest.parse(line) for line in lines if len(line) > 70)
