"""One line an event, for logs and pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click


def seconds(event: Mapping[str, Any]) -> str:
    return f"{event.get('seconds') or 0:.1f}s"


def size(count: int) -> str:
    """``count`` bytes in the largest fitting unit."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return ""


class PlainView:
    """Writes to standard output (or, ``aside``, error); steps of several builds are told apart by their service."""

    def __init__(self, aside: bool = False) -> None:
        self._aside = aside

    def show(self, event: Mapping[str, Any]) -> None:
        line = describe(event)
        if line is not None:
            click.echo(line, err=self._aside)


def describe(event: Mapping[str, Any]) -> str | None:
    """The line for ``event``; ``None`` for events that say nothing to a person."""
    handler = _LINES.get(event["event"])
    return handler(event) if handler else None


def explained(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events, and behind each step that had to run a further one for every reason."""
    for event in events:
        yield event
        for reason in event.get("why") or ():
            yield {"event": "explain", "service": event["service"], "step": event["step"], "text": reason}


def _phase(event: Mapping[str, Any]) -> str | None:
    return f"== {event['name']} ({seconds(event)})" if event["state"] == "done" else f"== {event['name']} …"


def _step_done(event: Mapping[str, Any]) -> str:
    how = "CACHED" if event.get("cached") else seconds(event)
    return f"[{event['service']} {event['step']}] {event['name']}  {how}"


def _build_done(event: Mapping[str, Any]) -> str:
    return f"[{event['service']}] {event['state']}: {event.get('reference') or '-'} ({seconds(event)})"


def _service(event: Mapping[str, Any]) -> str:
    instance = f" {event['instance']}" if event.get("instance") else ""
    instance += f" on {event['cluster']}" if event.get("cluster") else ""
    return f"{event['service']}{instance}: {event['state']}" + (
        f" ({seconds(event)})" if event.get("seconds") is not None else ""
    )


_LINES: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "phase": _phase,
    "build.step.start": lambda event: f"[{event['service']} {event['step']}] {event['name']}",
    "build.step.done": _step_done,
    "build.log": lambda event: f"[{event['service']} {event['step']}] | {event['text']}",
    "explain": lambda event: f"[{event['service']} {event['step']}]   because {event['text']}",
    "build.queued": lambda event: f"[{event['service']}] waiting for a place, {event['ahead']} before it",
    "blob": lambda event: (
        f"{event['digest'][7:19]} {size(event['size'])} {'is there already' if event['known'] else 'sent'}"
    ),
    "layer": lambda event: f"[{event['service']}] layer {event['digest'][7:19]} {size(event['size'])}",
    "build.done": _build_done,
    "service.state": _service,
    "log": lambda event: f"{event.get('service', '')} | {event['text']}",
    "warning": lambda event: f"warning: {event['text']}",
}
