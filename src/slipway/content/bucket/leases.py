"""Leases as small objects: end and owner in the first line, then one digest a line."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from slipway.base.ids import new_id
from slipway.content.bucket.objects import BETWEEN_CLOCKS, Missing, Objects
from slipway.errors import Conflict
from slipway.oci import Digest

_AT_ONCE = 8


class BucketLease:
    """One object, written anew with each digest: one request, and the sweep reads either all of it or none."""

    def __init__(
        self, objects: Objects, owner: str, ttl: timedelta, renew: Callable[[Digest], int | None]
    ) -> None:
        self.id = new_id(16)
        self._objects = objects
        self._renew = renew
        self._end = time.time() + ttl.total_seconds()
        self._owner = " ".join(owner.split())
        self._held: list[Digest] = []
        self._lock = threading.Lock()
        self._write([])

    def __enter__(self) -> BucketLease:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def add(self, digest: Digest) -> None:
        """Idempotent. Raises ``Conflict`` when the lease is over."""
        if digest not in self._held:
            self.hold((digest,))

    def hold(self, digests: Iterable[Digest]) -> dict[Digest, int | None]:
        """Add several with one request, and renew them beside one another; the size of each that is here."""
        wanted = list(dict.fromkeys(digests))
        with self._lock:
            if time.time() > self._end:
                raise Conflict(
                    f"the lease {self.id} is over", hint="the work took longer than its lease: run it again"
                )
            held = list(dict.fromkeys([*self._held, *wanted]))
            if len(held) > len(self._held):
                self._write(held)
            with ThreadPoolExecutor(_AT_ONCE, "renew") as pool:
                sizes = dict(zip(wanted, pool.map(self._renew, wanted), strict=True))
            self._held = held
        return sizes

    def _write(self, digests: list[Digest]) -> None:
        lines = [f"{self._end:.0f} {self._owner}", *map(str, digests)]
        self._objects.put(f"leases/{self.id}", "".join(f"{line}\n" for line in lines).encode())

    def release(self) -> None:
        self._objects.delete([f"leases/{self.id}"])


def leased(objects: Objects) -> Iterator[Digest]:
    """Every digest under a lease that is not over by anybody's clock; leases that are over are removed."""
    now = objects.clock() - BETWEEN_CLOCKS.total_seconds()
    for item in objects.list("leases"):
        with contextlib.suppress(Missing):  # released meanwhile
            head, *lines = objects.get(item.key).decode().splitlines()
            if int(head.partition(" ")[0]) < now:
                objects.delete([item.key])
            else:
                yield from (Digest.parse(line) for line in lines)
