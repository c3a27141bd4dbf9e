"""Leases: digests that somebody is about to reference."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from slipway.base.ids import new_id
from slipway.errors import Conflict
from slipway.oci import Digest


class Lease:
    """Protects what is added to it until it is released or its time is over.

    Add a digest *before* relying on the blob being there, and release the lease *after* the reference is made: then
    either the sweep leaves the blob alone, or the caller sees that it is gone.
    """

    def __init__(
        self, directory: Path, owner: str, ttl: timedelta, renew: Callable[[Digest], int | None]
    ) -> None:
        self.id = new_id(16)
        self._path = directory / self.id
        self._renew = renew
        self._held: set[Digest] = set()
        self._fd = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        end = time.time() + ttl.total_seconds()
        os.write(self._fd, f"{end:.0f} {' '.join(owner.split())}\n".encode())

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def add(self, digest: Digest) -> None:
        """Idempotent. Raises ``Conflict`` when the lease is over and was swept away."""
        if digest not in self._held:
            self.hold((digest,))

    def hold(self, digests: Iterable[Digest]) -> dict[Digest, int | None]:
        """Add several at once; the size of each, ``None`` for one that is not here. Raises as ``add`` does."""
        wanted = dict.fromkeys(digests)
        if self._fd < 0 or os.fstat(self._fd).st_nlink == 0:
            raise Conflict(
                f"the lease {self.id} is over", hint="the work took longer than its lease: run it again"
            )
        os.write(self._fd, "".join(f"{digest}\n" for digest in wanted if digest not in self._held).encode())
        sizes = {digest: self._renew(digest) for digest in wanted}
        self._held.update(wanted)
        return sizes

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()


def leased(directory: Path) -> Iterator[Digest]:
    """Every digest under a lease that is not over; leases that are over are removed."""
    for path in sorted(directory.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # released meanwhile
            # A line without its end is being written right now: what it will say is young, and so is safe.
            head, *lines = path.read_text().rpartition("\n")[0].split("\n")
            end = head.partition(" ")[0]
            if end.isdigit() and int(end) < time.time():
                path.unlink()
            elif end:
                yield from (Digest.parse(line) for line in lines)
