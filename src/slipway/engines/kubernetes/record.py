"""Who may change an app in the cluster now, and what was last done to it: a ConfigMap beside the app's objects.

Several controllers may serve the same cluster. One that wants to change an app takes its record first, by a write
that fails if anybody else has written since it was read, and keeps it by writing again and again. What a holder writes
to the app's objects carries the record's number (``slipway/move``), so that one that was away and comes back late finds
a higher number there and stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from slipway.base.clock import iso, now
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.ownership import check_ours
from slipway.engines.kubernetes.patient import PatientClient
from slipway.errors import Conflict, NotFound, SlipwayError, Unavailable

log = logging.getLogger(__name__)
MOVE = f"{names.LABEL}move"
_PAUSE = 0.5
RECORD = f"{names.LABEL}record"


@dataclass(frozen=True, slots=True)
class Record:
    """``renewed``: by service, what its last restart wrote into its Pods. ``release``: what ``move`` was to."""

    namespace: str
    move: int = 0
    holder: str = ""
    until: datetime | None = None
    release: int = 0
    renewed: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    def held_by_another(self, me: str) -> bool:
        return bool(self.holder) and self.holder != me and self.until is not None and self.until > now()


def read_record(obj: Mapping[str, Any]) -> Record:
    """Lenient: what cannot be read is as if it were not there."""
    data, metadata = obj.get("data") or {}, obj["metadata"]
    record = Record(metadata["namespace"], version=metadata.get("resourceVersion", ""))
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        record = replace(
            record,
            move=int(data.get("move", "0")),
            holder=data.get("holder", ""),
            until=datetime.fromisoformat(data["until"]) if data.get("until") else None,
            release=int(data.get("release", "0")),
            renewed=dict(json.loads(data.get("renewed", "{}"))),
        )
    return record


def record_manifest(app: AppRef, record: Record) -> dict[str, Any]:
    """With ``version`` the API server refuses to apply it if anybody else has written since."""
    metadata: dict[str, Any] = {
        "name": names.record_name(app),
        "namespace": record.namespace,
        "labels": {**names.object_labels(app, str(record.release)), RECORD: "true"},
    }
    if record.version:
        metadata["resourceVersion"] = record.version
    data = {
        "move": str(record.move),
        "holder": record.holder,
        "until": iso(record.until) if record.until else "",
        "release": str(record.release),
        "renewed": json.dumps(dict(record.renewed), sort_keys=True),
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@dataclass(slots=True)
class Holding:
    """While it is not ``lost``, the app is ours to change."""

    record: Record
    lost: SlipwayError | None = None
    keeper: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raises ``Conflict`` when another controller has taken over, and ``Unavailable`` when one could have."""
        if isinstance(self.lost, Unavailable):
            raise Unavailable(f"the app could not be kept from other controllers: {self.lost.message}")
        if self.lost:
            raise Conflict(
                f"another controller has taken over: {self.lost.message}",
                hint="its result counts; look at the app",
            )


class Records:
    """``me`` tells this controller from others, and from what it was before a restart."""

    def __init__(self, me: str, lease_seconds: float) -> None:
        self.me = me
        self._lease = lease_seconds

    def is_anothers(self, record: Record | None) -> bool:
        """Whether another controller changes the app now."""
        return record is not None and record.held_by_another(self.me)

    async def get(self, client: PatientClient, app: AppRef, namespace: str) -> Record | None:
        """Raises ``Conflict`` when somebody else has something under its name."""
        found = await client.get("ConfigMap", names.record_name(app), namespace)
        if found is None:
            return None
        check_ours(found, {RECORD: "true", **names.app_labels(app)})
        return read_record(found)

    @contextlib.asynccontextmanager
    async def held(
        self, client: PatientClient, app: AppRef, namespace: str, move: int, release: int
    ) -> AsyncIterator[Holding]:
        """The app is ours inside. ``move``: the highest number found on its objects.

        Raises ``Conflict`` when another controller has it. If we are lost or cancelled, it is free again afterwards.
        """
        before = await self._free(client, app, namespace)
        taken = replace(before, move=max(before.move, move) + 1, holder=self.me, release=release)
        try:
            holding = Holding(await self._write(client, app, taken))
        except Conflict as error:
            raise _anothers(app) from error
        holding.keeper = asyncio.create_task(self._keep(client, app, holding))
        try:
            yield holding
        finally:
            if await _ended(holding) and not holding.lost:
                await asyncio.shield(self._release(client, app, holding))

    async def _free(self, client: PatientClient, app: AppRef, namespace: str) -> Record:
        """As long as one that was killed would hold it, it is waited for."""
        end = time.monotonic() + 1.5 * self._lease + 1
        while True:
            found = await self.get(client, app, namespace) or Record(namespace)
            if not found.held_by_another(self.me):
                return found
            if time.monotonic() >= end:
                raise _anothers(app)
            await asyncio.sleep(_PAUSE)

    async def _keep(self, client: PatientClient, app: AppRef, holding: Holding) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                holding.record = await self._write(client, app, holding.record)
            except SlipwayError as error:
                holding.lost = error
                log.warning("%s is no longer ours to change: %s", app, error)
                return

    async def _release(self, client: PatientClient, app: AppRef, holding: Holding) -> None:
        try:
            await self._write(client, app, replace(holding.record, holder=""))
        except (Conflict, NotFound) as error:
            log.info("the record of %s was not ours any more: %s", app, error)

    async def delete(self, client: PatientClient, app: AppRef, holding: Holding) -> None:
        """The record goes, and nobody writes it again."""
        await _ended(holding)
        found = await client.get("ConfigMap", names.record_name(app), holding.record.namespace)
        if found is not None:
            await client.delete(found)

    async def write(self, client: PatientClient, app: AppRef, holding: Holding, **changed: Any) -> None:
        holding.record = await self._write(client, app, replace(holding.record, **changed))

    async def _write(self, client: PatientClient, app: AppRef, record: Record) -> Record:
        """Raises ``Conflict`` if anybody else wrote since ``record`` was read."""
        while True:
            try:
                return await self._write_once(client, app, record)
            except Conflict:
                found = await self.get(client, app, record.namespace)
                if found is None or found.holder != self.me or found.move != record.move:
                    raise
                # It was us: an earlier write's answer was lost, or one of ours came in between.
                record = replace(record, version=found.version)

    async def _write_once(self, client: PatientClient, app: AppRef, record: Record) -> Record:
        until = now() + timedelta(seconds=self._lease) if record.holder else None
        manifest = record_manifest(app, replace(record, until=until))
        # Without a version an apply would take what somebody else has just made.
        made = await (client.apply(manifest) if record.version else client.create(manifest))
        found = read_record(made)
        if found.move != record.move or found.holder != record.holder:
            raise Conflict(f"the record of {app} was written by another controller at the same time")
        return found


def _anothers(app: AppRef) -> Conflict:
    return Conflict(f"{app} is being changed by another controller", hint="try again when that is through")


async def _ended(holding: Holding) -> bool:
    """Stop writing the record; whether it was being written until now."""
    keeper, holding.keeper = holding.keeper, None
    if keeper is None:
        return False
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    return True
