"""Sandboxes in a container that is in a user namespace of its own already, as in a Pod.

The container's ids are the steps' ids: no files on disk have to be shifted, and a step's root has a user namespace of
its own nevertheless, in which it may do nothing to those outside. Limits are the container's, as is the network.
"""

from __future__ import annotations

import os
from pathlib import Path

from slipway.base import cgroups
from slipway.build.sandbox.opening import Opening
from slipway.build.sandbox.ranges import IdRange
from slipway.build.sandbox.sandbox import Sandbox
from slipway.build.sandbox.steps import Limits


class ContainerGroup(cgroups.Group):
    """The group that this process is in, which somebody else limits; it is only read."""

    def __init__(self) -> None:
        super().__init__("")

    @property
    def entries(self) -> list[str]:
        return []

    def create(self, limits: cgroups.GroupLimits) -> None:
        """Somebody has."""

    def kill(self) -> None:
        """The steps end with their worker, as everything in its process namespace does."""

    def destroy(self) -> None:
        """It is not ours."""


class NestedSandboxes(Opening):
    """Opens sandboxes. ``lock`` is any file: nobody else takes ids in here. ``count`` ids are there.

    ``in_place``: where no user namespace can be made, a step's root is the container's, with the capabilities and
    system calls that Docker leaves a container.
    """

    def __init__(self, lock: Path, count: int, *, in_place: bool = False) -> None:
        self._in_place = in_place
        self._lock = lock
        self._count = count

    async def _make(self, build_id: str, limits: Limits) -> Sandbox:
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        ids = IdRange(0, fd, self._count)
        return Sandbox(build_id, ids, ContainerGroup(), limits, None, nested=True, in_place=self._in_place)
