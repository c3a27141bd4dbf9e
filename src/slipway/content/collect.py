"""Mark and sweep, while everything else goes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from slipway.oci import Digest

if TYPE_CHECKING:
    from slipway.content.store import LocalStore


_BATCH = 64  # blobs removed under one lock, so that nobody waits for long


@dataclass(frozen=True, slots=True)
class Collected:
    """How many blobs went, and how many bytes."""

    removed: int
    bytes: int


def collect(store: LocalStore, roots: Callable[[], Iterable[Digest]], grace: timedelta) -> Collected:
    """Remove what nobody references, leases or has just written.

    What makes it safe: whoever adds a reference leases the blob first, which makes it young. A lease that is there
    when leases are read is seen; one from later, even if it is over again by then, has left a blob younger than this
    collection, and such a blob stays whatever ``grace`` says. A reference from before the leases were read is among
    the roots or still leased, for a lease ends after its reference is made: so leases first, then roots.
    """
    end = time.time() - max(grace.total_seconds(), 0)
    candidates = {digest: size for digest, size, modified in store.listing() if modified < end}
    for digest in store.leased():
        candidates.pop(digest, None)
    for digest in roots():
        candidates.pop(digest, None)
    removed = freed = 0
    remaining = iter(candidates.items())
    while batch := list(itertools.islice(remaining, _BATCH)):
        for digest in store.delete_older([digest for digest, _ in batch], end):
            removed, freed = removed + 1, freed + candidates[digest]
    return Collected(removed, freed)
