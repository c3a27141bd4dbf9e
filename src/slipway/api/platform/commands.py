"""A command in an app's instance: one request has its output, others its input and its terminal's size."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from slipway import wire
from slipway.access import Identity, Permission
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Caller, Parts
from slipway.api.platform.services import Services
from slipway.api.platform.streams import failure, lines
from slipway.base.ids import new_id
from slipway.delivery import AppRef
from slipway.delivery.commands import Command
from slipway.errors import NotFound

router = APIRouter(tags=["apps"], route_class=BoundedRoute)
_ID = 32


@dataclass(frozen=True, slots=True)
class _Session:
    command: Command
    owner: Identity


Sessions = dict[str, _Session]


def _sessions_of(request: Request) -> Sessions:
    found: Sessions = request.app.state.commands
    return found


Running = Annotated[Sessions, Depends(_sessions_of)]


@router.post("/projects/{project}/apps/{name}/exec")
async def execute(
    parts: Parts, caller: Caller, running: Running, project: str, name: str, request: wire.Execute
) -> Response:
    """``exec`` with a session's name, ``output`` in base64, ``done`` with the exit code. When the client goes away, the
    command ends."""
    await parts.access.require(caller, project, Permission.DELIVER)
    ref = AppRef(project, name)
    await parts.apps.get(ref)
    detail = {"service": request.service, "program": request.command[0]}
    await parts.access.audit(caller, "app.exec", str(ref), project=project, detail=detail)
    return lines(_events(parts, caller, running, ref, request))


@router.post("/exec/{session}/input", status_code=204)
async def take_input(caller: Caller, running: Running, session: str, request: Request) -> None:
    """The body is the command's standard input, as it comes; its end is the input's."""
    command = _own(running, session, caller)
    try:
        async for piece in request.stream():
            if piece:
                await command.write(piece)
    except ClientDisconnect:
        pass
    await command.write(b"")


@router.post("/exec/{session}/size", status_code=204)
async def resize(caller: Caller, running: Running, session: str, request: wire.TerminalSize) -> None:
    await _own(running, session, caller).resize(request.columns, request.rows)


def _own(running: Sessions, session: str, caller: Identity) -> Command:
    found = running.get(session)
    if found is None or (found.owner.kind, found.owner.id) != (caller.kind, caller.id):
        raise NotFound("there is no such command, or it has ended")
    return found.command


async def _events(
    parts: Services, caller: Identity, running: Sessions, ref: AppRef, request: wire.Execute
) -> AsyncIterator[dict[str, Any]]:
    session = new_id(_ID)
    try:
        async with parts.views.run(
            ref, request.service, request.replica, request.command, takes_input=request.input,
            terminal=request.terminal,
        ) as command:  # fmt: skip
            running[session] = _Session(command, caller)
            if request.terminal:
                await command.resize(request.columns, request.rows)
            if not request.input:
                await command.write(b"")
            yield {"event": "exec", "session": session}
            async with aclosing(command.output()) as output:  # type: ignore[type-var]
                async for stream, data in output:
                    yield {"event": "output", "stream": stream, "data": base64.b64encode(data).decode()}
            yield {"event": "done", "result": {"code": await command.code()}}
    except Exception as error:
        yield failure(error)
    finally:
        running.pop(session, None)
