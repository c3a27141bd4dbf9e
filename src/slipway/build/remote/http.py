"""A file by URL."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import aiohttp

from slipway.base.files import read_json, write_json
from slipway.build.remote.credentials import NOBODY, Credentials
from slipway.build.remote.names import HttpSource
from slipway.distribution.addresses import ANYWHERE, CheckedResolver, Reach, check_host
from slipway.errors import Denied, Exhausted, Failed, Invalid, NotFound, Unavailable

MAX_SIZE = 16 * 1024**3
_TIMEOUT = aiohttp.ClientTimeout(total=3600, connect=15, sock_read=60)
_PIECE = 1024 * 1024
_REDIRECTS = 10


async def fetch_http(
    source: HttpSource, directory: Path, credentials: Credentials = NOBODY, reach: Reach = ANYWHERE
) -> Path:
    """Fetch into ``directory``, which keeps the file for the next time; asked again, the server may say it is still so.

    Returns the file. Raises ``NotFound``, ``Denied``, ``Unavailable``, ``Failed`` for a wrong checksum.
    """
    about = directory / "about.json"
    known = read_json(about) if about.exists() else {}
    file = directory / "file"
    headers = {"User-Agent": "slipway"}
    if file.exists():
        headers |= {
            name: known[key]
            for name, key in (("If-None-Match", "etag"), ("If-Modified-Since", "modified"))
            if known.get(key)
        }
    connector = aiohttp.TCPConnector(resolver=CheckedResolver(reach))
    async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector, auto_decompress=False) as session:
        found = await _follow(session, source.url, headers, file, credentials, reach)
    if found is not None:
        known = found
        write_json(about, known, durable=False)
    if source.checksum and known["checksum"] != source.checksum:
        raise Failed(
            f"{source.url} is {known['checksum']}, not {source.checksum}",
            hint="it has changed: look at what it is now, then change the checksum",
        )
    return file


async def _follow(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    file: Path,
    credentials: Credentials,
    reach: Reach,
) -> dict[str, str] | None:
    """The facts of what was fetched into ``file``; ``None`` if it is there unchanged."""
    for _ in range(_REDIRECTS):
        host, port = urlsplit(url).hostname, urlsplit(url).port
        if urlsplit(url).scheme not in ("http", "https") or not host:
            raise Invalid(f"{url[:200]} cannot be fetched")
        await check_host(host, port or 80, reach)
        # Each host is told what is for it, and nothing that is for the one that sent us there.
        word = credentials.for_file(url)
        own = {**headers, "Authorization": word} if word else headers
        try:
            async with session.get(url, headers=own, allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                if response.status == 304 and file.exists():
                    return None
                _check(response.status, url)
                return await _save(response, file)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(f"{url[:200]} cannot be fetched: {error}", hint="try again later") from error
    raise Failed(f"{url[:200]} redirects more than {_REDIRECTS} times")


def _check(status: int, url: str) -> None:
    if status in (404, 410):
        raise NotFound(f"there is nothing at {url[:200]} (HTTP {status})")
    if status in (401, 403):
        raise Denied(
            f"{url[:200]} is not for everybody (HTTP {status})",
            hint="give the build a secret: --secret id=HTTP_AUTH_TOKEN_<host>,env=NAME",
        )
    if status != 200:
        raise Unavailable(f"{url[:200]} answers with HTTP {status}", hint="try again later")


async def _save(response: aiohttp.ClientResponse, file: Path) -> dict[str, str]:
    hasher, size = hashlib.sha256(), 0
    part = file.with_name("part")
    with await asyncio.to_thread(part.open, "wb") as handle:
        async for piece in response.content.iter_chunked(_PIECE):
            size += len(piece)
            if size > MAX_SIZE:
                raise Exhausted(f"{response.url} is larger than {MAX_SIZE} bytes")
            await asyncio.to_thread(_add, handle, hasher, piece)
    modified = response.headers.get("Last-Modified", "")
    try:
        when = parsedate_to_datetime(modified).timestamp()
    except (TypeError, ValueError, OverflowError):
        when, modified = 0.0, ""
    os.utime(part, (when, when))
    part.chmod(0o600)
    part.rename(file)
    return {
        "etag": response.headers.get("ETag", ""),
        "modified": modified,
        "checksum": f"sha256:{hasher.hexdigest()}",
    }


def _add(handle: BinaryIO, hasher: hashlib._Hash, piece: bytes) -> None:
    handle.write(piece)
    hasher.update(piece)
