"""What the cluster should have of each app: manifests, rendered anew only when what they are made from is another."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from slipway.delivery.engine import AppRef, Wanted
from slipway.engines.kubernetes.objects import Object, difference
from slipway.engines.kubernetes.observed import Observed
from slipway.engines.kubernetes.render import manifests
from slipway.engines.kubernetes.setting import Setting


class Rendered:
    """Remembers the last rendering of each app."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._known: dict[AppRef, tuple[tuple[Any, ...], list[Object]]] = {}

    def of(self, app: AppRef, wanted: Wanted, namespace: str, renewed: Mapping[str, str]) -> list[Object]:
        """``renewed``: what its restarts wrote, by service. Not to be changed: others get the same list."""
        release = wanted.release
        key = (release.number, release.digest, dict(wanted.scale), namespace, dict(renewed))
        known = self._known.get(app)
        if known is None or known[0] != key:
            known = (key, manifests(app, wanted, self._setting, namespace=namespace, renewed=renewed))
            self._known[app] = known
        return known[1]

    def is_so(self, app: AppRef, wanted: Wanted, observed: Observed) -> bool:
        """Whether all that is wanted is there and nothing else is; where the app is, with what its restarts wrote."""
        if not observed.namespace:
            return False
        renewed = observed.record.renewed if observed.record is not None else {}
        return difference(self.of(app, wanted, observed.namespace, renewed), observed.objects).none

    def forget(self, apps: Container[AppRef]) -> None:
        """All but these."""
        for ref in [ref for ref in self._known if ref not in apps]:
            del self._known[ref]
