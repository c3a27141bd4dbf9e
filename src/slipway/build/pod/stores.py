"""What a solver has on a server, for one that has it at the other end of a channel."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from slipway.base.ids import new_id
from slipway.build.attest import Inventories
from slipway.build.attest.inventory import LayerInventory
from slipway.build.base_images import BaseImage
from slipway.build.cache_images import Imported
from slipway.build.explain import Traces
from slipway.build.listing import ListedContext, ListedFile
from slipway.build.made import Made
from slipway.build.pod.server import Server
from slipway.build.pods import forms
from slipway.build.pods.forms import tree_number
from slipway.build.remote import Fetched, RemoteSource
from slipway.content import BlobLease, LocalStore
from slipway.errors import Invalid
from slipway.oci import Digest, Platform, Reference
from slipway.snapshots import LayerRef


class FetchingStore(LocalStore):
    """A store that gets a blob from the server when it is opened and not here."""

    def __init__(self, root: Path, server: Server) -> None:
        super().__init__(root, durable=False)
        self._server = server
        self._coming: dict[Digest, asyncio.Task[None]] = {}
        self._beside: dict[Digest, tuple[Digest, ...]] = {}

    def open(self, digest: Digest) -> BinaryIO:
        if self.size(digest) is None:
            self._server.wait(self._fetch_with(digest))
        return super().open(digest)

    def together(self, digests: Sequence[Digest]) -> None:
        """Who opens one of these will open the others: they come while that one is unpacked."""
        self._beside |= dict.fromkeys(digests, tuple(digests))

    async def _fetch_with(self, digest: Digest) -> None:
        for other in self._beside.pop(digest, ()):
            self._beside.pop(other, None)
            if other != digest and self.size(other) is None:
                self._begin(other)
        await self.fetch(digest)

    async def fetch(self, digest: Digest) -> None:
        """Have it here; two that want it get it once."""
        if await asyncio.to_thread(self.size, digest) is not None:
            return
        await asyncio.shield(self._begin(digest))

    def _begin(self, digest: Digest) -> asyncio.Task[None]:
        task = self._coming.get(digest)
        if task is None:
            task = self._coming[digest] = asyncio.create_task(self._fetch(digest))
            task.add_done_callback(lambda _: self._coming.pop(digest, None))
        return task

    async def _fetch(self, digest: Digest) -> None:
        with await asyncio.to_thread(self.writer, digest.algorithm) as sink:
            await self._server.download(digest, sink)
            await asyncio.to_thread(sink.commit, digest)


class KeptInventories(Inventories):
    """Inventories in memory, until they go to the server with their layers."""

    def __init__(self, directory: Path, blobs: LocalStore) -> None:
        super().__init__(directory, blobs)
        self.found: dict[Digest, LayerInventory] = {}

    def keep(self, layer: Digest, found: LayerInventory) -> None:
        self.found[layer] = found


class ServersCache:
    """The server's build cache. What is put there travels while the build goes on; ``settle`` waits for it."""

    def __init__(self, server: Server, blobs: LocalStore, inventories: KeptInventories) -> None:
        self._server = server
        self._blobs = blobs
        self._inventories = inventories
        self._put: dict[str, Made] = {}
        self._sending: dict[Digest, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def get(self, key: str) -> Made | None:
        if key in self._put:
            return self._put[key]
        found = await self._server.ask("cache.get", key=key)
        return forms.made_from_json(found["made"]) if found else None

    async def put(self, key: str, made: Made, description: str) -> None:
        self._put[key] = made
        self._tasks.append(asyncio.create_task(self._send(key, made, description)))

    async def _send(self, key: str, made: Made, description: str) -> None:
        inventory = None
        if made.layer is not None:
            digest = made.layer.blob.digest
            if digest not in self._sending:
                self._sending[digest] = asyncio.create_task(
                    self._server.upload(digest, self._blobs.path(digest))
                )
            await asyncio.shield(self._sending[digest])
            found = self._inventories.found.get(digest)
            inventory = found.to_json() if found else None
        value = forms.made_to_json(made)
        await self._server.ask("cache.put", key=key, made=value, description=description, inventory=inventory)

    async def settle(self) -> None:
        """Wait until the server has everything. Raises what went wrong on the way."""
        await asyncio.gather(*self._tasks)

    async def drop(self) -> None:
        """Send nothing more."""
        for task in (*self._tasks, *self._sending.values()):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._sending.values(), return_exceptions=True)


class ServersTraces(Traces):
    """What the steps depended on last time, as the server knows it."""

    def __init__(self, directory: Path, server: Server) -> None:
        super().__init__(directory)
        self._server = server

    def packed(self, line: str) -> bytes:
        return base64.b64decode(self._server.wait(self._server.ask("trace.get"))["packed"])

    def replace(self, line: str, packed: bytes) -> None:
        self._server.wait(self._server.ask("trace.put", packed=base64.b64encode(packed).decode()))


class ServersImages:
    """Base images, found by the server with the rights of the build's owner."""

    def __init__(self, server: Server, blobs: FetchingStore) -> None:
        self._server = server
        self._blobs = blobs

    async def resolve(self, reference: Reference, platform: Platform) -> BaseImage:
        found = await self._server.ask("image", reference=str(reference), platform=str(platform))
        image = forms.image_from_json(found["image"])
        self._blobs.together([layer.blob.digest for layer in image.layers])
        return image


class ServersImports(Imported):
    """The caches that the build was given."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    async def step(self, key: str, lease: BlobLease) -> Made | None:
        found = await self._server.ask("imported.step", key=key)
        return forms.made_from_json(found["made"]) if found else None

    async def mount(self, name: str, lease: BlobLease) -> LayerRef | None:
        found = await self._server.ask("imported.mount", name=name)
        return forms.layer_from_json(found["layer"]) if found else None


class ServersTrees:
    """Contexts and what comes from elsewhere, as lists whose files are fetched when a step copies them."""

    def __init__(self, server: Server, files: Path) -> None:
        self._server = server
        self._files = files
        files.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, name: Path) -> ListedContext:
        """The context of this name. Blocks."""
        return self._server.wait(self._opened(tree_number(name)))

    @asynccontextmanager
    async def fetched(self, source: RemoteSource) -> AsyncIterator[Fetched]:
        found = await self._server.ask("fetch", source=forms.source_to_json(source))
        yield Fetched(await self._opened(found["tree"]), found["path"], found["revision"])

    async def _opened(self, number: int) -> ListedContext:
        lines = await self._server.tree(number)

        def fetch(files: Sequence[ListedFile]) -> None:
            self._server.wait(self._fetch(number, files))

        return await asyncio.to_thread(ListedContext, lines, self._files, fetch)

    async def _fetch(self, number: int, files: Sequence[ListedFile]) -> None:
        writer = _Writer(files)
        try:
            async with self._server.files(number, [item.index for item in files]) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(writer.take, piece)
            await asyncio.to_thread(writer.finish)
        finally:
            writer.close()


class _Writer:
    """Files out of a stream of their contents, each verified, complete once it is there."""

    def __init__(self, files: Sequence[ListedFile]) -> None:
        self._files = iter(files)
        self._file: ListedFile | None = None
        self._fd = -1
        self._draft = Path()
        self._left = 0
        self._next()

    def take(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._file is None:
                raise Invalid("the server sent more than was asked for")
            part = view[: self._left]
            self._hasher.update(part)
            view = view[len(part) :]
            self._left -= len(part)
            while part:
                part = part[os.write(self._fd, part) :]
            if not self._left:
                self._end()

    def finish(self) -> None:
        if self._file is not None:
            raise Invalid("the context changed while it was read", hint="run the same again")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._draft.unlink(missing_ok=True)

    def _next(self) -> None:
        self._file = next(self._files, None)
        if self._file is None:
            return
        self._draft = self._file.path.with_name(f".new-{new_id()}")
        self._fd = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._left = self._file.size
        self._hasher = hashlib.sha256()
        if not self._left:
            self._end()

    def _end(self) -> None:
        assert self._file is not None
        if self._hasher.digest() != self._file.digest:
            raise Invalid("a file of the context changed while it was read", hint="run the same again")
        os.close(self._fd)
        self._fd = -1
        os.rename(self._draft, self._file.path)
        self._next()
