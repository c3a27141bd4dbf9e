"""How long work is shown: plain lines, a live view on a terminal, or the events themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from slipway.cli.events.plain import PlainView
from slipway.client.transport import error_from
from slipway.errors import Interrupted

Events = Iterator[dict[str, Any]]


def show(events: Events, style: str, *, aside: bool = False) -> dict[str, Any]:
    """Show all ``events`` and return the result of ``done``.

    ``aside``: on standard error, since standard output is for something else.

    Raises the error that the work ended with, and ``Interrupted`` when the server went away in the middle.
    """
    if style == "json":
        return _consume(events, lambda event: click.echo(json.dumps(event), err=aside))
    if style == "live" and not aside:
        from slipway.cli.events.live import LiveView

        with LiveView() as view:
            return _consume(events, view.show)
    return _consume(events, PlainView(aside).show)


def _consume(events: Events, each: Any) -> dict[str, Any]:
    for event in events:
        if event["event"] == "error":
            raise error_from(event)
        each(event)
        if event["event"] == "done":
            result: dict[str, Any] = event.get("result") or {}
            return result
    raise Interrupted(
        "the server went away before the work was done",
        hint="run the same command again: it goes on where it can",
    )
