"""The live view on a terminal: running steps with their time below, finished ones above."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from slipway.cli.events.plain import describe, seconds

LOG_LINES = 4
_MARKS = {
    "healthy": "green",
    "routed": "green",
    "unchanged": "dim",
    "starting": "yellow",
    "draining": "yellow",
}


class LiveView:
    """Shows what runs now with a clock; what is done scrolls up as one line each."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._running: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._tails: dict[str, deque[str]] = {}
        self._live = Live(self, console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __rich__(self) -> Group:
        lines: list[Text] = []
        for key, (name, began) in list(self._running.items()):
            lines.append(Text(f" ⠿ {name}  {time.monotonic() - began:.1f}s", style="yellow", no_wrap=True))
            lines += [Text(f"   │ {tail}", style="dim", no_wrap=True) for tail in self._tails.get(key, ())]
        return Group(*lines)

    def show(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "build.step.start":
                self._start(_key(event), f"[{event['service']} {event['step']}] {event['name']}")
            case "build.step.done":
                self._finish(_key(event))
                how = Text("CACHED", "cyan") if event.get("cached") else Text(seconds(event), "green")
                name = f" ✓ [{event['service']} {event['step']}] {event['name']}  "
                self._console.print(Text(name, no_wrap=True).append_text(how))
            case "build.log":
                self._tails.setdefault(_key(event), deque(maxlen=LOG_LINES)).append(event["text"])
            case "service.state":
                self._service(event)
            case "phase" if event["state"] == "start":
                self._start(f"phase {event['name']}", event["name"])
            case "phase":
                self._finish(f"phase {event['name']}")
                self._console.print(Text(f" ✓ {event['name']}  {seconds(event)}", "bold"))
            case _:
                line = describe(event)
                if line is not None:
                    self._console.print(Text(f"   {line}"))

    def _service(self, event: Mapping[str, Any]) -> None:
        key = f"service {event['service']} {event.get('instance')} {event.get('cluster')}"
        state = event["state"]
        if state in ("starting", "draining"):
            self._start(key, f"{event['service']} {state}")
            return
        self._finish(key)
        self._console.print(Text(f" ✓ {describe(event)}", _MARKS.get(state, "")))

    def _start(self, key: str, name: str) -> None:
        self._running[key] = (name, time.monotonic())

    def _finish(self, key: str) -> None:
        self._running.pop(key, None)
        self._tails.pop(key, None)


def _key(event: Mapping[str, Any]) -> str:
    return f"{event.get('build')} {event.get('step')}"
