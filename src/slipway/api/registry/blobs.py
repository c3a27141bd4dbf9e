"""Blobs and uploads over HTTP, streamed in large pieces."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response

from slipway.api.files import ArrivingSlice, FileSlice
from slipway.api.registry.bodies import TooSlow
from slipway.api.registry.errors import Coded
from slipway.api.registry.inflow import Inflow
from slipway.errors import Invalid, SlipwayError
from slipway.oci import Digest
from slipway.registry import Registry
from slipway.registry.through import BlobFound
from slipway.registry.uploads import OutOfOrder, byte_range

_HEADERS = {"Docker-Distribution-API-Version": "registry/2.0"}


async def get(registry: Registry, request: Request, name: str, text: str) -> Response:
    digest = _digest(text)
    head = request.method == "HEAD"
    found: BlobFound = await request.state.through.blob(name, digest, keep=head, fetch=not head)
    size = found.size
    headers = _HEADERS | {
        "Docker-Content-Digest": str(digest),
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
        "Content-Type": "application/octet-stream",
    }
    span = byte_range(request.headers.get("range"), size)
    first, last = span or (0, size - 1)
    if span is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return Response(b"", status, headers | {"Content-Length": str(last - first + 1)})
    if found.arriving is not None:
        return ArrivingSlice(found.arriving, first, last - first + 1, status, headers)
    handle = await asyncio.to_thread(registry.blobs.open, digest)
    return FileSlice(handle, first, last - first + 1, status, headers)


async def remove(registry: Registry, request: Request, name: str, text: str) -> Response:
    await registry.linked.delete(name, _digest(text))
    return Response(status_code=202)


async def start(registry: Registry, request: Request, name: str, _rest: str) -> Response:
    """Begin an upload; or mount a blob of another repository; or take it whole at once."""
    query = request.query_params
    if query.get("mount") and query.get("from") and request.state.may_mount:
        digest = _digest(query["mount"])
        if await registry.linked.mount(name, digest, query["from"]):
            return _created(name, digest)
    whole = _digest(query["digest"]) if query.get("digest") else None
    state = await registry.uploads.start(name)
    if whole is not None:
        try:
            return await _finish(registry, request, name, state.id, whole)
        except BaseException:  # nobody has heard of this upload, so nobody goes on with it
            with contextlib.suppress(SlipwayError):
                await asyncio.shield(registry.uploads.cancel(name, state.id))
            raise
    return _accepted(name, state.id, state.range, 202)


async def status(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    state = await registry.uploads.state(name, upload_id)
    return _accepted(name, upload_id, state.range, 204)


async def append(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    length = request.headers.get("content-length", "")
    inflow = _inflow(registry, request, name, upload_id, int(length) if length.isdigit() else None)
    try:
        rest = await inflow.take(request)
    except BaseException:
        await asyncio.to_thread(inflow.close)
        raise
    offset = await asyncio.to_thread(inflow.end, rest)
    return _accepted(name, upload_id, f"0-{max(offset - 1, 0)}", 202)


async def finish(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    return await _finish(registry, request, name, upload_id, _digest(request.query_params.get("digest", "")))


async def _finish(
    registry: Registry, request: Request, name: str, upload_id: str, digest: Digest
) -> Response:
    inflow = _inflow(registry, request, name, upload_id, None)
    try:
        rest = await inflow.take(request)
        await registry.uploads.finish(name, digest, lambda: inflow.append(rest))
    except BaseException as error:
        await asyncio.to_thread(inflow.close)
        if isinstance(error, Invalid) and not isinstance(error, TooSlow | OutOfOrder):
            raise Coded(error, "DIGEST_INVALID") from error
        raise
    return _created(name, digest)


def _inflow(registry: Registry, request: Request, name: str, upload_id: str, length: int | None) -> Inflow:
    given = request.headers.get("content-range")
    return Inflow(lambda: registry.uploads.open(name, upload_id, given, length))


async def cancel(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    await registry.uploads.cancel(name, upload_id)
    return Response(status_code=204)


def _accepted(name: str, upload_id: str, span: str, status_code: int) -> Response:
    headers = _HEADERS | {
        "Location": f"/v2/{name}/blobs/uploads/{upload_id}",
        "Docker-Upload-UUID": upload_id,
        "Range": span,
    }
    return Response(status_code=status_code, headers=headers)


def _created(name: str, digest: Digest) -> Response:
    headers = _HEADERS | {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": str(digest)}
    return Response(status_code=201, headers=headers)


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except Invalid as error:
        raise Coded(error, "DIGEST_INVALID") from error
