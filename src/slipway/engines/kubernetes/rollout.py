"""Making what is wanted true, service by service, and taking it back when it does not become healthy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from slipway.base.progress import Progress
from slipway.compose import Service
from slipway.delivery.engine import AppRef, Wanted
from slipway.delivery.jobs import is_job
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.health import is_current, is_ready
from slipway.engines.kubernetes.kinds import WORKLOADS
from slipway.engines.kubernetes.objects import Object, as_wanted, difference, key_of
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.render_workloads import limit_of
from slipway.engines.kubernetes.waiting import Limits, Waiting
from slipway.engines.kubernetes.writing import Writer
from slipway.errors import SlipwayError

log = logging.getLogger(__name__)
_BACK_SECONDS = 120.0


class Rollout:
    """One app, as long as it is ours."""

    def __init__(
        self, client: PatientClient, app: AppRef, writer: Writer, limits: Limits, progress: Progress
    ) -> None:
        self._client = client
        self._app = app
        self._writer = writer
        self._limits = limits
        self._progress = progress

    async def bring_up(
        self, wanted: Wanted, manifests: Sequence[Object], *, gates_only: bool = False
    ) -> None:
        """Everything applied: each service when those it depends on are up, and published when all are.

        ``gates_only``: waits only for what others depend on, and applies only what is not as wanted.
        """
        workloads = {
            item["metadata"]["labels"][names.SERVICE]: item for item in manifests if item["kind"] in WORKLOADS
        }
        await self._apply(
            [item for item in manifests if item["kind"] not in (*WORKLOADS, "Ingress")], gates_only
        )
        services = wanted.release.model.services
        up = {name: asyncio.Event() for name in workloads}
        needed = {other for service in services.values() for other in service.depends_on}

        async def one(service: Service) -> None:
            for name in service.depends_on:
                if name in up:
                    await up[name].wait()
            awaited = service.name in needed or not gates_only
            await self._bring_up(wanted, service, workloads[service.name], gates_only, awaited)
            up[service.name].set()

        async with asyncio.TaskGroup() as group:
            for service in services.values():
                group.create_task(one(service))
        await self._apply([item for item in manifests if item["kind"] == "Ingress"], gates_only)

    async def _apply(self, objects: Sequence[Object], gates_only: bool) -> None:
        seen = self._writer.seen
        async with asyncio.TaskGroup() as group:
            for item in objects:
                if not (gates_only and as_wanted(item, seen.get(key_of(item)))):
                    group.create_task(self._writer.apply(item))

    async def _bring_up(
        self, wanted: Wanted, service: Service, manifest: Object, gates_only: bool, awaited: bool
    ) -> None:
        before = self._writer.seen.get(key_of(manifest))
        right = as_wanted(manifest, before)
        if right and (gates_only or manifest["kind"] == "Job"):
            applied = before or manifest
        else:
            applied = await self._writer.apply(manifest)
        same = before is not None and _generation(before) == _generation(applied)
        if gates_only and same and not awaited:
            return
        if not awaited:
            return
        began = time.monotonic()
        self._say(service.name, "unchanged" if same else "starting")
        waits = any(
            other.depends_on[service.name].condition == "service_completed_successfully"
            for other in wanted.release.model.services.values()
            if service.name in other.depends_on
        )
        job = is_job(wanted.release.model, service)
        waiting = Waiting(self._client, self._app, service, self._limits)
        if manifest["kind"] == "StatefulSet":
            await self._end_broken(applied)
        await waiting.until_ready(
            applied, self._limits.job if job else limit_of(service), completed=waits or not job
        )
        if not same:
            state = "completed" if job and waits else "healthy" if service.healthcheck else "running"
            self._say(service.name, state, round(time.monotonic() - began, 2))

    async def _end_broken(self, applied: Object) -> None:
        """A StatefulSet waits for its broken Pods of an earlier release for ever; they are ended here."""
        metadata = applied["metadata"]
        labels = applied["spec"]["selector"]["matchLabels"]
        for pod in await self._client.list("Pod", metadata["namespace"], labels):
            if (
                not is_current(applied, pod)
                and not is_ready(pod)
                and "deletionTimestamp" not in pod["metadata"]
            ):
                await self._client.delete(pod)

    async def prune(self, manifests: Sequence[Object]) -> None:
        """What is the app's and not among ``manifests`` goes; volumes never do."""
        found = difference(manifests, self._writer.seen).prune
        if found:
            log.info(
                "%s: remove %s", self._app, ", ".join(f"{i['kind']} {i['metadata']['name']}" for i in found)
            )
        await self._writer.remove(found)

    async def take_back(self, before: Wanted | None, manifests: Sequence[Object]) -> None:
        """As it was before: ``manifests`` of ``before`` again, and nothing else. One failure does not stop the rest."""
        try:
            if before is not None:
                self._progress({"event": "warning", "text": f"going back to release {before.release.number}"})
                async with asyncio.timeout(_BACK_SECONDS):
                    await self.bring_up(before, manifests)
        except (SlipwayError, TimeoutError, BaseExceptionGroup) as error:
            log.warning("%s: the release before is not whole again yet: %s", self._app, error)
        try:
            await self.prune(manifests)
        except SlipwayError as error:
            log.warning("%s: what a failed release left could not be removed: %s", self._app, error)

    def _say(self, service: str, state: str, seconds: float | None = None) -> None:
        event = {"event": "service.state", "service": service, "state": state, "instance": ""}
        self._progress(event if seconds is None else {**event, "seconds": seconds})


def _generation(obj: Object) -> object:
    """Changes with the specification."""
    return obj["metadata"].get("uid"), obj["metadata"].get("generation")
