"""Source code that a request names: a directory here (root on this machine only), or an upload."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway import wire
from slipway.access import Identity
from slipway.api.platform.services import Services
from slipway.base.ids import new_id
from slipway.base.trees import remove_tree
from slipway.build.context import Context
from slipway.build.remote import NOBODY, Credentials, GitSource, parse_remote
from slipway.errors import Denied, Invalid, NotFound
from slipway.layers import ApplyLimits, apply_layer
from slipway.layers.compression import BROKEN, detected

MAX_UPLOAD = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Opened:
    """A directory, and the time of the commit it is, if it is one (seconds since 1970)."""

    directory: Path
    committed: int | None = None


@asynccontextmanager
async def opened(
    parts: Services, caller: Identity, source: wire.Source, credentials: Credentials = NOBODY
) -> AsyncIterator[Opened]:
    """The source, for as long as the block runs. An upload is used once. ``credentials`` are for repositories."""
    if source.path:
        if not caller.local:
            raise Denied(
                "only root on the server's own machine may name a directory there", hint="upload the source"
            )
        path = Path(source.path)
        if not path.is_absolute() or not path.is_dir():
            raise NotFound(f"{source.path} is not a directory on this machine")
        yield Opened(path)
        return
    if source.git:
        async with _repository(parts, source.git, credentials) as found:
            yield found
        return
    if not source.upload.isalnum():
        raise Invalid("the request names neither a directory nor an upload")
    archive = parts.uploads / f"{caller.name.replace('$', '_')}-{source.upload}"
    if not archive.is_file():
        raise NotFound(f"there is no upload {source.upload!r}")
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=parts.uploads))
    try:
        await asyncio.to_thread(_unpack, archive, directory)
        yield Opened(directory)
    finally:
        await asyncio.to_thread(remove_tree, directory)
        archive.unlink(missing_ok=True)


@asynccontextmanager
async def _repository(parts: Services, address: str, credentials: Credentials) -> AsyncIterator[Opened]:
    """A checkout, by a name that cannot lead elsewhere any more."""
    source = parse_remote(address)
    if not isinstance(source, GitSource):
        raise Invalid(f"{address[:200]!r} is no address of a git repository")
    async with parts.remotes.fetched(source, credentials) as found:
        assert isinstance(found.tree, Context)
        fd = await asyncio.to_thread(found.tree.open_directory, found.path)
        try:
            yield Opened(Path(f"/proc/self/fd/{fd}"), found.committed)
        finally:
            os.close(fd)


def _unpack(archive: Path, directory: Path) -> None:
    """An archive from anybody: unpacked as carefully as a layer. A device in it would be the host's to who opens it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with archive.open("rb") as stream:
            limits = ApplyLimits(entries=1_000_000, uncompressed=MAX_UPLOAD, devices=False)
            try:
                apply_layer(detected(stream), fd, compression="none", limits=limits)
            except BROKEN as error:
                raise Invalid(f"the upload is damaged: {error}") from error
    finally:
        os.close(fd)


async def receive(parts: Services, caller: Identity, chunks: AsyncIterator[bytes]) -> str:
    """Keep an uploaded tar for the caller; its id."""
    upload = new_id(24)
    path = parts.uploads / f"{caller.name.replace('$', '_')}-{upload}"
    size = 0
    try:
        with await asyncio.to_thread(path.open, "xb") as handle:
            async for chunk in chunks:
                size += len(chunk)
                if size > MAX_UPLOAD:
                    raise Invalid(f"the upload is larger than {MAX_UPLOAD} bytes")
                await asyncio.to_thread(handle.write, chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return upload
