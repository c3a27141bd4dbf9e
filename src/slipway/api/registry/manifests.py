"""Manifests, tags and referrers over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway.api.registry.bodies import pieces
from slipway.api.registry.errors import Coded
from slipway.errors import Exhausted, Invalid, NotFound
from slipway.oci import Digest, MediaType, parse_manifest
from slipway.oci.manifest import MAX_MANIFEST
from slipway.registry import Registry
from slipway.registry.referrers import PAGE as REFERRERS

_HEADERS = {"Docker-Distribution-API-Version": "registry/2.0"}
MAX_COUNT = 10_000
DEFAULT_COUNT = 1_000


async def get(registry: Registry, request: Request, name: str, reference: str) -> Response:
    if ":" in reference:
        _digest(reference)
    stored = await request.state.through.manifest(name, reference)
    if request.method == "GET" and request.state.gate is not None:
        await request.state.gate.check(name, stored)
    if ":" not in reference:
        registry.pulls.note(name, reference)
    headers = _HEADERS | {
        "Docker-Content-Digest": str(stored.digest),
        "ETag": f'"{stored.digest}"',
        "Content-Length": str(len(stored.data)),
    }
    body = b"" if request.method == "HEAD" else stored.data
    return Response(body, 200, headers, stored.media_type)


async def put(registry: Registry, request: Request, name: str, reference: str) -> Response:
    data = bytearray()
    async for chunk in pieces(request, request.state.pace):
        data += chunk
        if len(data) > MAX_MANIFEST:
            raise Exhausted(f"the manifest is larger than its limit is: {MAX_MANIFEST} bytes")
    if ":" in reference:
        _digest(reference)
    try:
        stored = await registry.put_manifest(
            name, reference, bytes(data), request.headers.get("content-type", ""), request.state.owner,
            request.state.moved,
        )  # fmt: skip
    except Invalid as error:
        raise Coded(error, "MANIFEST_INVALID") from error
    headers = _HEADERS | {
        "Location": f"/v2/{name}/manifests/{stored.digest}",
        "Docker-Content-Digest": str(stored.digest),
    }
    subject = parse_manifest(stored.data, stored.media_type).subject
    if subject is not None:
        headers["OCI-Subject"] = str(subject.digest)
    return Response(status_code=201, headers=headers)


async def remove(registry: Registry, request: Request, name: str, reference: str) -> Response:
    if ":" in reference:
        _digest(reference)
    await registry.delete_manifest(
        name, reference, request.state.owner, own=request.state.own, moved=request.state.moved
    )
    return Response(status_code=202)


async def tags(registry: Registry, request: Request, name: str, _rest: str) -> Response:
    count = page_size(request, default=DEFAULT_COUNT)
    try:
        found = await registry.lists.tags(name, count, request.query_params.get("last", ""))
    except NotFound as error:
        raise Coded(error, "NAME_UNKNOWN") from error
    return page(request, {"name": name, "tags": found}, found, count)


async def referrers(registry: Registry, request: Request, name: str, digest: str) -> Response:
    """Pages follow a Link; ``n`` and ``last`` are as for tags, ``last`` being a digest."""
    wanted, last = request.query_params.get("artifactType", ""), request.query_params.get("last", "")
    subject = _digest(digest)
    if last:
        _digest(last)
    count = page_size(request, default=REFERRERS)
    found = await registry.documents.referrers_page(name, subject, wanted, last, min(count, REFERRERS))
    headers = _HEADERS | ({"OCI-Filters-Applied": "artifactType"} if wanted else {})
    if found.last:
        query = {"n": str(count), "last": found.last} | ({"artifactType": wanted} if wanted else {})
        headers["Link"] = f'<{quote(request.url.path)}?{urlencode(query)}>; rel="next"'
    return Response(found.index.to_bytes(), 200, headers, MediaType.OCI_INDEX)


def page_size(request: Request, default: int) -> int:
    """``n``, between 0 and a limit of ours."""
    text = request.query_params.get("n")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise Invalid(f"not a page size: {text[:40]!r}")
    return min(int(text[:9]), MAX_COUNT)


def page(request: Request, body: dict[str, Any], found: Sequence[str], count: int) -> Response:
    """A list with a link to what follows, if there may be more."""
    headers = dict(_HEADERS)
    if count and len(found) == count:
        query = urlencode({"n": count, "last": found[-1]})
        headers["Link"] = f'<{quote(request.url.path)}?{query}>; rel="next"'
    return JSONResponse(body, headers=headers)


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except Invalid as error:
        raise Coded(error, "DIGEST_INVALID") from error
