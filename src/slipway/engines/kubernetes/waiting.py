"""Waiting for a workload, with an end and a reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from slipway.compose import Service
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.health import CANNOT_PULL, Verdict, is_current, judge, refused
from slipway.engines.kubernetes.objects import Object
from slipway.engines.kubernetes.patient import PatientClient
from slipway.errors import Conflict, Exhausted, Failed, SlipwayError

_PAUSE = 0.4
_TAIL = 20
_SILENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds. ``stuck``: how long what may resolve by itself (no node, no room in the quota) is waited for."""

    stuck: float = 30.0
    job: float = 600.0


@dataclass(slots=True)
class Waiting:
    """For one workload of one app; ``until_ready`` returns or raises."""

    client: PatientClient
    app: AppRef
    service: Service
    limits: Limits

    async def until_ready(self, applied: Object, seconds: float, *, completed: bool = True) -> None:
        """``completed``: a Job has to end, not only to begin.

        Raises ``Failed`` with the last lines, ``Exhausted`` for a quota, ``Conflict`` when the workload is taken away.
        """
        began, lost = time.monotonic(), self.client.lost
        stuck_since: float | None = None
        while True:
            workload, pods = await asyncio.gather(self._workload(applied), self._pods(applied))
            if workload is None:
                raise Conflict(f"{self.service.name} was removed by somebody else while it was awaited")
            verdict = judge(workload, pods)
            if verdict.state == "ready" or (not completed and _has_begun(workload)):
                return
            now = time.monotonic() - (self.client.lost - lost)
            if verdict.state == "waiting" and now - began > _SILENCE_SECONDS and not pods:
                verdict = await self._refusal(workload) or verdict
            stuck_since = (stuck_since or now) if verdict.state == "stuck" else None
            if verdict.state == "failed" or (stuck_since and now - stuck_since >= self.limits.stuck):
                raise await self._error(verdict, pods)
            if now - began >= seconds:
                raise await self._error(await self._late(verdict, seconds), pods)
            await asyncio.sleep(_PAUSE)

    async def _workload(self, applied: Object) -> Object | None:
        metadata = applied["metadata"]
        return await self.client.get(applied["kind"], metadata["name"], metadata["namespace"])

    async def _pods(self, applied: Object) -> list[Object]:
        labels = names.service_labels(self.app, self.service.name)
        found = await self.client.list("Pod", applied["metadata"]["namespace"], labels)
        return [pod for pod in found if is_current(applied, pod)]

    async def _events(self, obj: Object) -> list[Object]:
        metadata = obj["metadata"]
        fields = f"involvedObject.uid={metadata['uid']}"
        found = await self.client.list("Event", metadata["namespace"], None, fields)
        return sorted(found, key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")

    async def _refusal(self, workload: Object) -> Verdict | None:
        """Why there is not even a Pod."""
        for event in reversed(await self._events(workload)):
            if event.get("reason") == "FailedCreate":
                return refused(event.get("message", ""))
        return None

    async def _late(self, verdict: Verdict, seconds: float) -> Verdict:
        """What there is to say when time is up."""
        if verdict.state == "stuck":
            return verdict
        reason = f"was not ready within {seconds:g} s"
        if verdict.reason and verdict.reason != "is not ready":
            reason += f": it {verdict.reason}"
        return Verdict("failed", reason, verdict.pod)

    async def _error(self, verdict: Verdict, pods: Sequence[Object]) -> SlipwayError:
        name = verdict.pod or next((pod["metadata"]["name"] for pod in pods), "")
        pod = next((item for item in pods if item["metadata"]["name"] == name), None)
        lines: list[str] = []
        reason = verdict.reason
        if pod is not None:
            lines = await self._last_lines(pod)
            if "was not ready" in reason:
                reason += await self._unhealthy(pod)
            if CANNOT_PULL in reason:
                reason = await self._not_pulled(pod) or reason
        tail = "".join(f"\n  | {line}" for line in lines)
        kind = Exhausted if verdict.quota else Failed
        hint = "the release before stays in service"
        return kind(f"{self.service.name} {reason}{tail}", hint=hint, service=self.service.name, log=lines)

    async def _unhealthy(self, pod: Object) -> str:
        for event in reversed(await self._events(pod)):
            if event.get("reason") in (
                "Unhealthy",
                "FailedMount",
                "FailedAttachVolume",
                "FailedCreatePodSandBox",
            ):
                return f" ({event.get('message', '').strip()[:500]})"
        return ""

    async def _not_pulled(self, pod: Object) -> str:
        """What the registry said; a Pod that waits to ask again says no more of it."""
        for event in reversed(await self._events(pod)):
            if event.get("reason") == "Failed" and "pull" in event.get("message", ""):
                return f"{CANNOT_PULL}: {event['message'].strip()[:1000]}"
        return ""

    async def _last_lines(self, pod: Object) -> list[str]:
        """Of the container, or, if it was just started again, of its run before."""
        for previous in (False, True):
            lines = [line async for line in self._lines(pod, previous)]
            if lines:
                return lines
        return []

    async def _lines(self, pod: Object, previous: bool) -> AsyncIterator[str]:
        metadata = pod["metadata"]
        source = self.client.client.logs(
            metadata["namespace"], metadata["name"], tail=_TAIL, previous=previous, timestamps=False
        )
        with suppress(SlipwayError):
            async with aclosing(source) as lines:
                async for line in lines:
                    yield line.decode(errors="replace").rstrip("\n")


def _has_begun(workload: Object) -> bool:
    status = workload.get("status", {})
    return workload["kind"] == "Job" and bool(status.get("active") or status.get("succeeded"))
