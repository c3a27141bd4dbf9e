"""An app's objects as they are in the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.objects import KINDS, Key, Object, by_key
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.record import MOVE, RECORD, Record, read_record

OURS = f"{names.MANAGED}={names.MANAGER},{names.APP}"


@dataclass(frozen=True, slots=True)
class Observed:
    """``objects``: all that carry the app's labels, Pods and the record aside."""

    objects: Mapping[Key, Object] = field(default_factory=dict)
    record: Record | None = None

    @property
    def namespace(self) -> str:
        """Where the app is; empty: nowhere yet."""
        if self.record is not None:
            return self.record.namespace
        return next((key.namespace for key in self.objects), "")

    @property
    def move(self) -> int:
        """The highest number of a move that is written on an object."""
        return max((move_of(item) for item in self.objects.values()), default=0)


def move_of(obj: Object) -> int:
    text = obj["metadata"].get("annotations", {}).get(MOVE, "")
    return int(text) if text.isdigit() else 0


async def observe(client: PatientClient, app: AppRef, prefix: str) -> Observed:
    """One request a kind. What is in namespaces of another ``prefix`` is another platform's."""
    found = await asyncio.gather(*(client.list(kind, None, names.app_labels(app)) for kind in KINDS))
    return sorted_out([item for items in found for item in items if is_ours(item, prefix)])


def is_ours(obj: Object, prefix: str) -> bool:
    """Whether an app's object is where we put such."""
    app = app_of(obj)
    places = (names.namespace_name(prefix, app.project), names.own_namespace_name(prefix, app))
    return obj["metadata"].get("namespace") in places


def app_of(obj: Object) -> AppRef:
    labels = obj["metadata"].get("labels", {})
    return AppRef(labels.get(names.PROJECT, ""), labels.get(names.APP, ""))


def sorted_out(items: list[Object]) -> Observed:
    """``items``: all of one app."""
    records = [item for item in items if item["metadata"]["labels"].get(RECORD)]
    others = [item for item in items if not item["metadata"]["labels"].get(RECORD)]
    return Observed(by_key(others), read_record(records[0]) if records else None)
