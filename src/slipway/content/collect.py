"""Mark and sweep, while everything else goes on."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from slipway.oci import Digest

if TYPE_CHECKING:
    from slipway.content.store import LocalStore

Roots = Callable[[Digest, Digest], Iterable[Digest]]
"""What is referenced between two digests, both included, at the moment of the call; more than that is no harm."""

PAGE = 10_000  # blobs that are looked at together
_BATCH = 64  # blobs removed under one lock, so that nobody waits for long
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Collected:
    """How many blobs went, and how many bytes."""

    removed: int
    bytes: int


def collect(store: LocalStore, roots: Roots, grace: timedelta) -> Collected:
    """Remove what nobody references, leases or has just written.

    What makes it safe: whoever adds a reference leases the blob first, which makes it young. A lease that is there
    when leases are read is seen; one from later, even if it is over again by then, has left a blob younger than this
    collection, and such a blob stays whatever ``grace`` says. A reference from before the leases were read is among
    the roots or still leased, for a lease ends after its reference is made: so leases first, then roots.
    """
    end = time.time() - max(grace.total_seconds(), 0)
    old = ((digest, size) for digest, size, modified in store.listing() if modified < end)
    removed = freed = 0
    drop_ended(store.leased)
    for page in pages(old):
        unneeded(page, store.leased, roots)
        remaining = iter(page)
        while batch := list(itertools.islice(remaining, _BATCH)):
            for digest in store.delete_older(batch, end):
                removed, freed = removed + 1, freed + page[digest]
    return Collected(removed, freed)


def pages(found: Iterable[tuple[Digest, T]]) -> Iterator[dict[Digest, T]]:
    """A store may have tens of millions of blobs: some thousand at a time are in memory."""
    remaining = iter(found)
    while page := dict(itertools.islice(remaining, PAGE)):
        yield page


def drop_ended(leased: Callable[[], Iterable[Digest]]) -> None:
    """Whoever reads leases removes those that are over; also where no blob is old enough to ask for."""
    deque(leased(), maxlen=0)


def unneeded(page: dict[Digest, Any], leased: Callable[[], Iterable[Digest]], roots: Roots) -> None:
    """Leave in the page what is not leased and, as is asked after that, not referenced either."""
    first, last = min(page), max(page)
    for digest in leased():
        page.pop(digest, None)
    for digest in roots(first, last) if page else ():
        page.pop(digest, None)
