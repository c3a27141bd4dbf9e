"""Talking to a running HAProxy: the present worker over its socket, replaced ones through the master's."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Failed
from slipway.network.changes import State, parse_map, parse_names, parse_servers
from slipway.network.routes import TCP, Files

_SECONDS = 5.0
_FRONTENDS, _BACKENDS, _SERVERS = 1, 2, 4
# The answers to commands that change something and did; an answer that is none of them is a refusal.
_GOOD = ("", "New server registered.", "Server deleted.")
_CHANGED = re.compile(r"(IP|port|no need to change).*(changed|change)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServerStats:
    """One server in numbers, since the present worker started."""

    backend: str
    server: str
    status: str
    sessions: int
    queued: int
    requests: int
    bytes_in: int
    bytes_out: int
    errors: int


@dataclass(frozen=True, slots=True)
class Processes:
    """The master's view of itself. ``failed``: attempts to reload since the last that succeeded."""

    worker: int = 0
    replaced: tuple[int, ...] = ()
    failed: int = 0


async def say(socket: Path, command: str) -> str:
    async with asyncio.timeout(_SECONDS):
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            writer.write(command.encode() + b"\n")
            # The master would wait for more.
            writer.write_eof()
            return (await reader.read()).decode(errors="replace").strip()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def change(socket: Path, command: str) -> None:
    answer = await say(socket, command)
    if answer not in _GOOD and not _CHANGED.match(answer):
        raise Failed(f"haproxy refused {command!r}: {answer}")


async def observe(files: Files) -> State:
    """What the present worker does."""
    info = dict(line.partition(":")[::2] for line in (await say(files.admin, "show info")).splitlines())
    frontends = {row["pxname"] for row in await statistics(files, _FRONTENDS)}
    return State(
        info.get("description", "").strip(),
        parse_map(await say(files.admin, f"show map {files.hosts}")),
        parse_names(await say(files.admin, "show backend")),
        frozenset(frontends),
        parse_servers(await say(files.admin, "show servers state")),
    )


async def statistics(files: Files, kind: int, worker: int | None = None) -> list[dict[str, str]]:
    """``show stat`` of the present worker, or of a replaced one; of one that has ended there is nothing."""
    command = f"show stat -1 {kind} -1"
    text = await (say(files.admin, command) if worker is None else say(files.master, f"@!{worker} {command}"))
    if not text.startswith("# "):
        return []
    return list(csv.DictReader(io.StringIO(text[2:])))


async def server_stats(files: Files) -> list[ServerStats]:
    return [
        ServerStats(
            row["pxname"], row["svname"], row["status"], _number(row["scur"]), _number(row["qcur"]),
            _number(row["stot"]), _number(row["bin"]), _number(row["bout"]),
            _number(row["econ"]) + _number(row["eresp"]),
        )
        for row in await statistics(files, _SERVERS)
    ]  # fmt: skip


async def is_busy(files: Files, server: str, replaced: tuple[int, ...]) -> bool:
    """Whether any worker has requests for ``server``, or may yet send it some."""
    if _load(await statistics(files, _SERVERS), server):
        return True
    for worker in replaced:
        rows = await statistics(files, _SERVERS, worker)
        if _load(rows, server):
            return True
        # A replaced worker cannot be told to spare a server. Its connections that wait between two requests may each
        # bring one more, which goes to any server it knows.
        if any(row["svname"] == server for row in rows) and await _waiting(files, worker):
            return True
    return False


async def _waiting(files: Files, worker: int) -> bool:
    """Whether a replaced worker has HTTP connections without a request."""
    frontends = await statistics(files, _FRONTENDS, worker)
    backends = await statistics(files, _BACKENDS, worker)
    connections = sum(_number(row["scur"]) for row in frontends if not row["pxname"].startswith(TCP))
    requests = sum(_number(row["scur"]) for row in backends if not row["pxname"].startswith(TCP))
    return connections > requests


def _load(rows: list[dict[str, str]], server: str) -> int:
    return sum(_number(row["scur"]) + _number(row["qcur"]) for row in rows if row["svname"] == server)


def _number(text: str) -> int:
    return int(text or 0)


async def processes(files: Files) -> Processes:
    return parse_processes(await say(files.master, "show proc"))


def parse_processes(text: str) -> Processes:
    """``show proc``: the master, then workers under headings."""
    groups: Mapping[str, list[int]] = {"workers": [], "old workers": [], "programs": []}
    failed, heading = 0, ""
    for line in text.splitlines():
        if line.startswith("# "):
            heading = line[2:].strip()
        elif found := re.match(r"(\d+)\s+(master|worker)\b", line):
            if found[2] == "master":
                counted = re.search(r"\[failed: (\d+)\]", line)
                failed = int(counted[1]) if counted else 0
            else:
                groups[heading].append(int(found[1]))
    worker = groups["workers"][0] if groups["workers"] else 0
    return Processes(worker, tuple(groups["old workers"]), failed)
