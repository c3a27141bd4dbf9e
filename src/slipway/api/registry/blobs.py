"""Blobs and uploads over HTTP, streamed in large pieces."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from slipway.api.files import FileSlice
from slipway.api.registry.bodies import TooSlow, pieces
from slipway.api.registry.errors import Coded
from slipway.content import BlobUpload
from slipway.errors import Invalid
from slipway.oci import Digest
from slipway.registry import Registry
from slipway.registry.uploads import byte_range

_PIECE = 1024 * 1024
_HEADERS = {"Docker-Distribution-API-Version": "registry/2.0"}


async def get(registry: Registry, request: Request, name: str, text: str) -> Response:
    digest = _digest(text)
    head = request.method == "HEAD"
    size = await request.state.through.blob(name, digest, keep=head, fetch=not head)
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
    handle = await asyncio.to_thread(registry.blobs.open, digest)
    return FileSlice(handle, first, last - first + 1, status, headers)


async def remove(registry: Registry, request: Request, name: str, text: str) -> Response:
    await registry.delete_blob(name, _digest(text))
    return Response(status_code=202)


async def start(registry: Registry, request: Request, name: str, _rest: str) -> Response:
    """Begin an upload; or mount a blob of another repository; or take it whole at once."""
    query = request.query_params
    if query.get("mount") and query.get("from") and request.state.may_mount:
        digest = _digest(query["mount"])
        if await registry.mount_blob(name, digest, query["from"]):
            return _created(name, digest)
    state = await registry.start_upload(name, request.state.owner)
    if query.get("digest"):
        upload = await registry.open_upload(name, state.id, None, None)
        return await _finish(registry, request, name, upload, _digest(query["digest"]))
    return _accepted(name, state.id, state.range, 202)


async def status(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    state = await registry.upload_state(name, upload_id)
    return _accepted(name, upload_id, state.range, 204)


async def append(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    length = request.headers.get("content-length", "")
    upload = await registry.open_upload(
        name, upload_id, request.headers.get("content-range"), int(length) if length.isdigit() else None
    )
    try:
        await _receive(request, upload)
    finally:
        await asyncio.to_thread(upload.close)
    return _accepted(name, upload_id, f"0-{max(upload.offset - 1, 0)}", 202)


async def finish(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    digest = _digest(request.query_params.get("digest", ""))
    upload = await registry.open_upload(name, upload_id, request.headers.get("content-range"), None)
    return await _finish(registry, request, name, upload, digest)


async def _finish(
    registry: Registry, request: Request, name: str, upload: BlobUpload, digest: Digest
) -> Response:
    try:
        await _receive(request, upload)
        await registry.finish_upload(name, upload, digest)
    except TooSlow:
        raise
    except Invalid as error:
        raise Coded(error, "DIGEST_INVALID") from error
    finally:
        await asyncio.to_thread(upload.close)
    return _created(name, digest)


async def cancel(registry: Registry, request: Request, name: str, upload_id: str) -> Response:
    await registry.cancel_upload(name, upload_id)
    return Response(status_code=204)


async def _receive(request: Request, upload: BlobUpload) -> None:
    """Append the body, a mebibyte or more at a time: while threads hash and write it, the next arrives."""
    held: list[bytes] = []
    size = 0
    appending: asyncio.Future[None] | None = None
    try:
        async for chunk in pieces(request, request.state.pace):
            held.append(chunk)
            size += len(chunk)
            if size >= _PIECE:
                if appending is not None:
                    await asyncio.shield(appending)
                data = b"".join(held)
                whole = size - size % _PIECE
                appending = asyncio.ensure_future(asyncio.to_thread(upload.append, memoryview(data)[:whole]))
                held, size = [data[whole:]], size - whole
    finally:
        if appending is not None:
            await appending
        if held and size:
            await asyncio.to_thread(upload.append, b"".join(held))


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
