"""Whether a Pod that was given a node gets on with its start there. No I/O.

A node whose network, disk or container runtime is broken says so in events only, and tries again for ever: the Pod's
status is ``ContainerCreating`` all the time, as that of a Pod whose image is large.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.build.pods import waiting
from slipway.build.pods.desk import WorkerLost, WorkerUnpullable

STILL_SECONDS = 60.0
"""For which a Pod may do nothing new before it counts as stuck."""
PULLING_SECONDS = 900.0
"""The same while an image is on its way, or where events cannot be read."""
UNPULLABLE_SECONDS = 30.0
_STEPS = ("Pulling", "Pulled", "Created", "Started", "SuccessfulAttachVolume")
_TROUBLES = ("FailedCreatePodSandBox", "FailedMount", "FailedAttachVolume")
_LONGEST = 500  # characters of a message in a build's log


@dataclass(slots=True)
class Start:
    """Fed with what a Pod's status and its events say at moments in seconds; each step counts once, as what is tried
    again is none."""

    node: str = ""
    _since: float | None = None
    _unpullable: float | None = None
    _why: str = ""
    _steps: set[tuple[str, str]] = field(default_factory=set)

    def look(self, pod: waiting.Pod, now: float) -> None:
        """What its status says."""
        self.node = waiting.node_of(pod) or self.node
        if not self.node or pod.get("status", {}).get("phase", "Pending") != "Pending":
            self._since = None
        elif self._since is None:
            self._since, self._why = now, ""
        self._why = waiting.waits_for(pod) or self._why
        if not waiting.is_unpullable(pod):
            self._unpullable = None
        elif self._unpullable is None:
            self._unpullable = now

    def hear(self, events: Iterable[Mapping[str, Any]], now: float) -> list[str]:
        """What its events say; returns what is in its way, for the build's log."""
        troubles = []
        for event in events:
            reason = str(event.get("reason") or "")
            step = (reason, str(event.get("involvedObject", {}).get("fieldPath") or ""))
            if reason in _TROUBLES:
                self._why = f"{reason}: {event.get('message') or ''}"[:_LONGEST]
                troubles.append(self._why)
            elif reason in _STEPS and step not in self._steps:
                self._steps.add(step)
                if self._since is not None:
                    self._since, self._why = now, ""
        return troubles

    def stuck(self, now: float, *, heard: bool = True) -> WorkerLost | None:
        """Why it is not waited for any longer. ``heard``: its events could be read just now."""
        if self._unpullable is not None:
            gone_on = now - self._unpullable > UNPULLABLE_SECONDS
            return WorkerUnpullable(self._why) if gone_on else None
        limit = PULLING_SECONDS if self._is_pulling or not heard else STILL_SECONDS
        if self._since is None or now - self._since <= limit:
            return None
        return WorkerLost(
            f"the worker has not started, and nothing went on for {limit:.0f} s: {self._why or 'no reason is given'}"
        )

    @property
    def goes_on(self) -> bool:
        """It has a node, and has not started there: when that is for too long, it is ``stuck``."""
        return self._since is not None

    @property
    def _is_pulling(self) -> bool:
        begun = {where for reason, where in self._steps if reason == "Pulling"}
        return any(("Pulled", where) not in self._steps for where in begun)
