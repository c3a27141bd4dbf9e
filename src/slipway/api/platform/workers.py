"""Workers that build elsewhere: what ``slipway.build.pods`` says, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response, StreamingResponse

from slipway.api.files import FileSlice
from slipway.api.platform.bodies import BoundedRoute
from slipway.api.platform.callers import Parts
from slipway.api.platform.streams import NDJSON
from slipway.build.pods.desk import Seat, as_object
from slipway.errors import Invalid, Unauthenticated
from slipway.oci import Digest

router = APIRouter(tags=["workers"], prefix="/workers", include_in_schema=False, route_class=BoundedRoute)
_MAX_BODY = 64 * 1024 * 1024
_LINES = 256 * 1024


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("only a worker that is expected comes in here")
    return token.strip()


async def _seat_of(parts: Parts, request: Request) -> Seat:
    return parts.desk.seat(_bearer(request))


Worker = Annotated[Seat, Depends(_seat_of)]


async def _body(request: Request) -> Any:
    """The body as JSON. Raises ``Invalid``, also for one that is too large."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _MAX_BODY:
            raise Invalid(f"more than {_MAX_BODY} bytes")
    try:
        return json.loads(bytes(data) or b"{}")
    except (ValueError, RecursionError) as error:
        raise Invalid("this is no JSON") from error


@router.get("/work")
async def work(parts: Parts, request: Request) -> Response:
    seat = parts.desk.join(_bearer(request))

    async def lines() -> AsyncIterator[bytes]:
        async for message in seat.messages():
            yield json.dumps(message).encode() + b"\n"

    return StreamingResponse(lines(), media_type=NDJSON)


@router.post("/ask/{what}")
async def ask(worker: Worker, what: str, request: Request) -> Any:
    return await worker.answers.ask(what, as_object(await _body(request)))


@router.get("/trees/{number}")
async def tree(worker: Worker, number: int) -> Response:
    found = await worker.answers.tree(number)
    return StreamingResponse(_joined(found), media_type=NDJSON)


@router.post("/trees/{number}/files")
async def files(worker: Worker, number: int, request: Request) -> Response:
    indexes = await _body(request)
    if not isinstance(indexes, list) or not all(isinstance(item, int) for item in indexes):
        raise Invalid("files are asked for by their places in the list")
    found = worker.answers.contents(number, indexes)
    return StreamingResponse(_joined(found), media_type="application/octet-stream")


@router.get("/blobs/{digest}")
async def blob(worker: Worker, digest: str) -> Response:
    handle, size = await worker.open(Digest.parse(digest))
    return FileSlice(handle, 0, size, 200, {"Content-Type": "application/octet-stream"})


@router.put("/blobs/{digest}", status_code=204)
async def send_blob(worker: Worker, digest: str, request: Request) -> None:
    await worker.answers.receive(Digest.parse(digest), request.stream())


@router.post("/events", status_code=204)
async def events(worker: Worker, request: Request) -> None:
    found = await _body(request)
    for item in found if isinstance(found, list) else []:
        worker.event(as_object(item))


@router.post("/done", status_code=204)
async def done(worker: Worker, request: Request) -> None:
    worker.done(as_object(await _body(request)))


async def _joined(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What a blocking iterator gives, in large pieces."""
    while data := await asyncio.to_thread(_piece, pieces):
        yield data


def _piece(pieces: Iterator[bytes]) -> bytes:
    held: list[bytes] = []
    size = 0
    for data in pieces:
        held.append(data)
        size += len(data)
        if size >= _LINES:
            break
    return b"".join(held)
