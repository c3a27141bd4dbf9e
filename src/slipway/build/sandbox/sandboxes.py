"""The sandboxes of one server."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from slipway.base.cgroups import Group, groups_below
from slipway.build.sandbox.opening import Opening
from slipway.build.sandbox.ranges import IdRanges
from slipway.build.sandbox.sandbox import Sandbox
from slipway.build.sandbox.steps import Limits, NetworkAttacher

_GROUPS = "slipway"


class Sandboxes(Opening):
    """Opens sandboxes. ``directory`` (the server's data) tells this server's groups from another's on the same host."""

    def __init__(
        self, directory: Path, network: NetworkAttacher | None, ranges: IdRanges | None = None
    ) -> None:
        mark = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:12]
        self._prefix = f"{_GROUPS}/build-{mark}-"
        self._network = network
        self._ranges = ranges or IdRanges()

    def recover(self) -> None:
        """Remove the groups of workers that a killed server left; their processes ended with it. Blocks."""
        for name in self.groups():
            Group(name).destroy()

    def groups(self) -> list[str]:
        """The control groups of this server's sandboxes that exist now, also of those it does not know of."""
        return [name for name in groups_below(_GROUPS) if name.startswith(self._prefix)]

    async def _make(self, build_id: str, limits: Limits) -> Sandbox:
        ids = self._ranges.take()  # not in a thread: being cancelled meanwhile would lose the range
        return Sandbox(build_id, ids, Group(f"{self._prefix}{build_id}"), limits, self._network)
