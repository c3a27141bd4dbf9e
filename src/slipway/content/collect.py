"""Mark and sweep, while everything else goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.oci import Digest

if TYPE_CHECKING:
    from slipway.content.store import LocalStore


@dataclass(frozen=True, slots=True)
class Collected:
    """How many blobs went, and how many bytes."""

    removed: int
    bytes: int


def collect(store: LocalStore, roots: Callable[[], Iterable[Digest]], grace: timedelta) -> Collected:
    """Remove what nobody references, leases or has just written.

    Order is what makes it safe: candidates first, then the roots, then the leases. Whoever adds a reference does it
    under a lease, so a blob that became referenced after the roots were read is still leased, or younger than
    ``grace`` (publishing a blob that is there already makes it young again).
    """
    now = time.time()
    candidates = {
        digest: size for digest, size, modified in store.listing() if now - modified > grace.total_seconds()
    }
    for digest in roots():
        candidates.pop(digest, None)
    for digest in store.leased():
        candidates.pop(digest, None)
    removed = freed = 0
    for digest, size in candidates.items():
        if store.age(digest) > grace.total_seconds() and store.delete(digest):
            removed, freed = removed + 1, freed + size
    return Collected(removed, freed)
