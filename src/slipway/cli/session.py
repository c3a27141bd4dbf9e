"""What every command is given: the client, and how to print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from slipway.cli.events import show
from slipway.client import Client, Credentials

if TYPE_CHECKING:
    from pydantic import BaseModel

P = ParamSpec("P")
R = TypeVar("R")


class Session:
    """One run of the command line. The client is made when a command first needs it."""

    def __init__(self, server: str, output: str) -> None:
        self.server = server
        self.output = output

    @property
    def json(self) -> bool:
        return self.output == "json"

    @property
    def live(self) -> bool:
        return self.output == "auto" and sys.stdout.isatty()

    @cached_property
    def client(self) -> Client:
        return Client(Credentials.load(self.server))

    def follow(self, events: Iterator[dict[str, Any]], *, aside: bool = False) -> dict[str, Any]:
        """Show the events of long work; the result of its ``done``. Raises the error it ended with.

        ``aside``: on standard error, since standard output is for something else.
        """
        style = self.output if self.output != "auto" else ("live" if self.live else "plain")
        return show(events, style, aside=aside)

    def table(self, rows: Iterable[BaseModel], columns: Sequence[str]) -> None:
        """Rows of models as aligned columns, or as a JSON array."""
        found = [row.model_dump(mode="json") for row in rows]
        if self.json:
            click.echo(json.dumps(found, indent=1))
            return
        self.rows(columns, [[_cell(row.get(column)) for column in columns] for row in found])

    def rows(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        """Aligned columns."""
        head = [column.upper().replace("_", " ") for column in columns]
        widths = [max(len(line[index]) for line in [head, *cells]) for index in range(len(columns))]
        for line in [head, *cells]:
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo(text.rstrip())

    def value(self, value: BaseModel, text: str) -> None:
        click.echo(value.model_dump_json(indent=1) if self.json else text)

    def said(self, text: str, **fields: Any) -> None:
        """One sentence about what was done, or the fields of it as JSON."""
        click.echo(json.dumps(fields or {"message": text}) if self.json else text)


def with_session(function: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Gives a command the session as its first argument."""

    @click.pass_obj
    def wrapped(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(session, *args, **kwargs)

    return update_wrapper(wrapped, function)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[7:19]
    if isinstance(value, str) and len(value) >= 20 and value[10:11] == "T":
        return value[:19].replace("T", " ")
    if isinstance(value, list):
        return ",".join(str(item) for item in value) or "-"
    return str(value)
