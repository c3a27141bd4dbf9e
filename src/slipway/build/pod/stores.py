"""What a solver has on a server, for one that has it at the other end of a channel."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from slipway.build.attest import Inventories
from slipway.build.attest.inventory import LayerInventory
from slipway.build.base_images import BaseImage
from slipway.build.cache_images import Imported
from slipway.build.explain import Traces
from slipway.build.made import Made
from slipway.build.pod.arriving import Arrival, ArrivingFile, cut_off
from slipway.build.pod.server import Server
from slipway.build.pods import forms
from slipway.build.request import SolveRequest
from slipway.content import BlobLease, LocalStore
from slipway.errors import NotFound
from slipway.oci import Digest, Platform, Reference
from slipway.snapshots import LayerRef


class FetchingStore(LocalStore):
    """A store where what is not here can be opened all the same: it comes from the server and is not kept.

    What is unpacked is not read again, so that keeping it would only take room and the disk's time.
    """

    def __init__(self, root: Path, server: Server) -> None:
        super().__init__(root, durable=False)
        self._root = root
        self._server = server
        self._ahead: dict[Digest, Arrival] = {}
        self._beside: dict[Digest, tuple[Digest, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, digest: Digest) -> BinaryIO:
        """Of a thread that is not the loop's. What goes wrong on the way is raised by reading."""
        if self.size(digest) is not None:
            return super().open(digest)
        return cast(BinaryIO, ArrivingFile(self._server.wait(self._arrival(digest))))

    def together(self, digests: Sequence[Digest]) -> None:
        """Who opens one of these will open the others: they come while that one is unpacked."""
        self._beside |= dict.fromkeys(digests, tuple(digests))

    async def _arrival(self, digest: Digest) -> Arrival:
        found = self._ahead.pop(digest, None) or self._begin(digest)
        for other in self._beside.pop(digest, ()):
            self._beside.pop(other, None)
            if other != digest and self.size(other) is None:
                self._ahead[other] = self._begin(other)
        return found

    def _begin(self, digest: Digest) -> Arrival:
        arrival = Arrival(self._root, digest)
        task = asyncio.create_task(self._receive(digest, arrival))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return arrival

    async def _receive(self, digest: Digest, arrival: Arrival) -> None:
        try:
            await self._server.download(digest, arrival.write)
        except BaseException as error:
            arrival.end(cut_off(error))
            if not isinstance(error, Exception):
                raise
        else:
            await self._server.taken(arrival.end)


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


class ServersSecrets:
    """The build's secrets, each asked for when a step is about to run that mounts it, and never kept here."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def of(self, _request: SolveRequest, name: str) -> bytes | None:
        try:
            found = await self._server.ask("secret", id=name)
        except NotFound:
            return None
        return base64.b64decode(found["value"])


class ServersAgent:
    """One SSH agent of the build's caller, at the other end of the server."""

    def __init__(self, server: Server, name: str) -> None:
        self._server = server
        self._name = name

    async def ask(self, message: bytes) -> bytes:
        found = await self._server.ask("agent", id=self._name, message=base64.b64encode(message).decode())
        return base64.b64decode(found["message"])


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
