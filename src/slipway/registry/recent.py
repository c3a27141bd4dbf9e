"""Manifests that were asked for lately.

What a digest names never changes, so nothing here is ever out of date; whether it may be had, and under which name, the
database says each time.
"""

from __future__ import annotations

from collections import OrderedDict

from slipway.oci import Digest

_BYTES = 16 * 1024 * 1024
_LARGEST = _BYTES // 16


class RecentBytes:
    """Small contents by digest; those that nobody asked for longest go when they are more than ``limit`` bytes."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._kept: OrderedDict[Digest, bytes] = OrderedDict()
        self._left = limit

    def get(self, digest: Digest) -> bytes | None:
        found = self._kept.get(digest)
        if found is not None:
            self._kept.move_to_end(digest)
        return found

    def add(self, digest: Digest, data: bytes) -> None:
        if digest in self._kept or len(data) > _LARGEST:
            return
        self._kept[digest] = data
        self._left -= len(data)
        while self._left < 0:
            self._left += len(self._kept.popitem(last=False)[1])
