"""One step as seen from the server: its output, its leash, its end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from slipway.build.sandbox.steps import Output

_READ = 65536
_DRAIN_SECONDS = 2
_KILL_SECONDS = 5
Launch = Callable[[Sequence[int]], Awaitable[None]]


async def supervise(launch: Launch, output: Output) -> dict[str, Any]:
    """Start a step by ``launch(stdout, stderr, leash)`` and follow it to its end; its last word.

    That is ``status``, or ``error`` when it could not be set up, or nothing when the worker has gone. Being cancelled,
    or a failing ``output``, kills the step, and returns only when it is dead.
    """
    leash, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    leash.setblocking(False)
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    try:
        try:
            await launch((out_end, err_end, theirs.fileno()))
        finally:
            theirs.close()
            os.close(out_end)
            os.close(err_end)
        pumps = {
            asyncio.create_task(_pump(fd, name, output)) for fd, name in ((out, "stdout"), (err, "stderr"))
        }
        out = err = -1
        return await _follow(leash, pumps)
    finally:
        leash.close()
        for fd in (out, err):
            if fd >= 0:
                os.close(fd)


async def _follow(leash: socket.socket, pumps: set[asyncio.Task[None]]) -> dict[str, Any]:
    last = asyncio.create_task(_last_word(leash))
    try:
        pending: set[asyncio.Task[Any]] = {last, *pumps}
        while not last.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {last}:
                task.result()  # a failing consumer ends the step
        # All its processes are dead, but one may have handed its output to a step beside it.
        await asyncio.wait(pumps, timeout=_DRAIN_SECONDS)
        for task in pumps:
            if task.done():
                task.result()
        return last.result()
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)
        if not last.done():
            leash.shutdown(socket.SHUT_WR)
            await asyncio.wait({last}, timeout=_KILL_SECONDS)
            last.cancel()


async def _last_word(leash: socket.socket) -> dict[str, Any]:
    """What was said first: why a step could not be set up comes before its status."""
    loop = asyncio.get_running_loop()
    found: dict[str, Any] = {}
    try:
        while data := await loop.sock_recv(leash, _READ):
            found = json.loads(data) | found
    except ConnectionError:
        pass
    return found


async def _pump(fd: int, stream: str, output: Output) -> None:
    """Pass on what is written to a pipe until its writers are gone; the pipe fills while ``output`` is busy."""
    reader = asyncio.StreamReader(limit=_READ)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", buffering=0)
    )
    try:
        while data := await reader.read(_READ):
            output(stream, data)
    finally:
        transport.close()
