"""What workers that wait unpack before they have a build: the base images that their project's builds stand on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from slipway.content import ContentStore
from slipway.snapshots import LayerRef

_IMAGES = 4  # of one build, and of one worker
_PROJECTS = 1000
Layers = tuple[LayerRef, ...]


class Waiting(Protocol):
    """A worker that has no build yet, or not any more: then it does nothing."""

    def prepare(self, layers: Layers, blobs: ContentStore) -> None: ...


@dataclass(slots=True)
class _Last:
    """What the last build of a project stood on, as far as it is known."""

    build_id: str
    blobs: ContentStore
    images: list[Layers] = field(default_factory=list)


class Beforehand:
    """By project, since within one all builds share their layers anyway. One event loop has it."""

    def __init__(self) -> None:
        self._last: dict[str, _Last] = {}
        self._waiting: dict[str, list[Waiting]] = defaultdict(list)

    def used(self, project: str, build_id: str, layers: Layers, blobs: ContentStore) -> None:
        """A build stands on an image: who waits unpacks it, and whoever will wait before the next build."""
        last = self._last.pop(project, None)
        if last is None or last.build_id != build_id:
            last = _Last(build_id, blobs)
        self._last[project] = last
        while len(self._last) > _PROJECTS:
            del self._last[next(iter(self._last))]
        if not layers or layers in last.images or len(last.images) >= _IMAGES:
            return
        last.images.append(layers)
        for worker in self._waiting.get(project, ()):
            worker.prepare(layers, blobs)

    async def forget(self, project: str) -> None:
        """Before it is removed: the next of its name does not get what this one's builds stood on."""
        self._last.pop(project, None)

    @contextmanager
    def waits(self, project: str, worker: Waiting) -> Iterator[None]:
        """For as long as the block."""
        if (last := self._last.get(project)) is not None:
            for layers in last.images:
                worker.prepare(layers, last.blobs)
        self._waiting[project].append(worker)
        try:
            yield
        finally:
            self._waiting[project].remove(worker)
            if not self._waiting[project]:
                del self._waiting[project]


class Told:
    """The layers that one worker was told to unpack, which it may have before it has a build."""

    def __init__(self) -> None:
        self._images: list[Layers] = []
        self.blobs: ContentStore | None = None

    def add(self, layers: Layers, blobs: ContentStore) -> bool:
        """Whether that is news, and not too much."""
        if layers in self._images or len(self._images) >= _IMAGES:
            return False
        self._images.append(layers)
        self.blobs = blobs
        return True

    def store_of(self, digest: object) -> ContentStore | None:
        """Where a layer is, if it is one of these."""
        known = any(layer.blob.digest == digest for layers in self._images for layer in layers)
        return self.blobs if known else None
