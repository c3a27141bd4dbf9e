"""Which apps need no mending, by what the mirror has; only those of which something changed are compared again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from slipway.delivery.engine import AppRef, Wanted
from slipway.engines.kubernetes.mirror import Mirror
from slipway.engines.kubernetes.record import Records
from slipway.engines.kubernetes.rendered import Rendered


class Soundness:
    """Asks nobody."""

    def __init__(self, mirror: Mirror, rendered: Rendered, records: Records) -> None:
        self._mirror = mirror
        self._rendered = rendered
        self._records = records
        # What was wanted of an app when it was last found so; nothing of it has changed since.
        self._good: dict[AppRef, tuple[Any, ...]] = {}

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        """Those of ``apps``, all that there are, that are as wanted, or that another controller is at."""
        self._rendered.forget(apps)
        for ref in self._good.keys() - apps.keys():
            del self._good[ref]
        changed, self._mirror.changed = self._mirror.changed, set()
        for ref in changed:
            self._good.pop(ref, None)
        held: set[AppRef] = set()
        for ref, wanted in apps.items():
            what = (wanted.release.number, wanted.release.digest, dict(wanted.scale))
            if self._good.get(ref) != what:
                self._good.pop(ref, None)
                observed = self._mirror.observed(ref)
                if self._records.is_anothers(observed.record):
                    held.add(ref)  # is changed, and looked after, by another controller
                elif self._rendered.is_so(ref, wanted, observed):
                    self._good[ref] = what
                await asyncio.sleep(0)  # others have their turn
        return (self._good.keys() & apps.keys()) | held
