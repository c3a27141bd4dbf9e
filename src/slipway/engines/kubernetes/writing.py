"""Writing an app's objects, for as long as the app is ours."""

from __future__ import annotations

from collections.abc import Iterable

from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.objects import KINDS, Key, Object, key_of, lacks_address
from slipway.engines.kubernetes.observed import Observed, move_of
from slipway.engines.kubernetes.ownership import check_ours
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.record import MOVE, Holding
from slipway.engines.kubernetes.replacing import is_fixed, make_room
from slipway.errors import Conflict, Invalid

_ATTEMPTS = 10


class Writer:
    """Applies by what it last saw: an object that was changed since is looked at again before it is written."""

    def __init__(self, client: PatientClient, holding: Holding, observed: Observed) -> None:
        self._client = client
        self._holding = holding
        self._seen: dict[Key, Object] = dict(observed.objects)

    async def apply(self, wanted: Object) -> Object:
        """Raises ``Conflict`` when the app, or the object, is another's, and ``Invalid``: then all is as it was."""
        key = key_of(wanted)
        for _ in range(_ATTEMPTS):
            self._holding.check()
            if key not in self._seen:
                await self._look_again(wanted)
            try:
                made = await self._client.apply(self._guarded(wanted, self._seen.get(key)))
            except Invalid as error:
                old = self._seen.get(key)
                if old is None or not is_fixed(key.kind, error):
                    raise
                await make_room(self._client, old, wanted)
                self._seen.pop(key, None)
            except Conflict as error:
                if "meanwhile" not in error.message:
                    raise
                await self._look_again(wanted)
            else:
                self._seen[key] = made
                if not lacks_address(made, wanted):
                    return made
                await make_room(self._client, made, wanted)
                self._seen.pop(key, None)
        raise Conflict(f"{key.kind} {key.name} is changed by others again and again")

    def _guarded(self, wanted: Object, seen: Object | None) -> Object:
        metadata = wanted["metadata"]
        annotations = {**metadata.get("annotations", {}), MOVE: str(self._holding.record.move)}
        guarded = {**metadata, "annotations": annotations}
        if seen is not None:
            if move_of(seen) > self._holding.record.move:
                raise Conflict(
                    f"{wanted['kind']} {metadata['name']} was written by a later move of another controller"
                )
            guarded["resourceVersion"] = seen["metadata"]["resourceVersion"]
        return {**wanted, "metadata": guarded}

    async def _look_again(self, wanted: Object) -> None:
        """Raises ``Conflict`` when it is not ours: it is not taken, and never pruned."""
        key = key_of(wanted)
        self._seen.pop(key, None)
        found = await self._client.get(key.kind, key.name, key.namespace or None)
        if found is not None:
            marks = (names.MANAGED, names.PROJECT, names.APP)
            check_ours(found, {mark: wanted["metadata"]["labels"][mark] for mark in marks})
            self._seen[key] = found

    async def remove(self, objects: Iterable[Object]) -> None:
        """What is published first, what it stands on last."""
        for item in sorted(objects, key=lambda found: -KINDS.index(found["kind"])):
            self._holding.check()
            if item["metadata"]["labels"].get(names.MANAGED) != names.MANAGER:
                continue
            try:
                await self._client.delete(item)
            except Conflict:
                continue  # another of its name is there by now, and is looked at next time
            self._seen.pop(key_of(item), None)

    @property
    def seen(self) -> dict[Key, Object]:
        """Every object of the app as last seen."""
        return dict(self._seen)
