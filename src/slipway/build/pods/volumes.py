"""Who has a project's volume of kept directories now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from slipway.build.pods.builder import Place

EMPTY = "this build begins with empty ones"


@dataclass(frozen=True, slots=True)
class CacheVolume:
    """What is asked of a cluster for each project: ``size`` in bytes, an empty ``storage_class`` is the default one.

    ``many``: Pods of several nodes can use one volume at the same time (ReadWriteMany).
    """

    size: int
    storage_class: str = ""
    many: bool = False


class Volumes:
    """One event loop has it. Where Pods cannot share a volume, one of them has it, the others are told."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()

    @contextmanager
    def given(self, place: Place, volume: CacheVolume | None, tell: Callable[[str], None]) -> Iterator[Place]:
        """``place`` as it is for the length of the block: its Pod mounts the volume if that ``keeps`` then."""
        key = (place.cluster, place.project)
        without = replace(place, keeps=False)
        if not place.keeps or volume is None:
            yield without
        elif place.attempt > 1:  # where the volume is may have been what was wrong
            tell(f"the project's kept directories are left out after a worker was lost: {EMPTY}")
            yield without
        elif volume.many:
            yield place
        elif key in self._taken:
            tell(f"the project's kept directories are in use by another build: {EMPTY}")
            yield without
        else:
            self._taken.add(key)
            try:
                yield place
            finally:
                self._taken.discard(key)
