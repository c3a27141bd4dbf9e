"""What the server tells the worker of one build."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import BinaryIO

from slipway.build.attest.inventory import LayerInventory
from slipway.build.base_images import BaseImages
from slipway.build.cache_images import Imported
from slipway.build.context import Context
from slipway.build.listing import Listing
from slipway.build.made import Made
from slipway.build.pods import forms
from slipway.build.pods.forms import Json
from slipway.build.pods.joining import Joining
from slipway.build.remote import Credentials
from slipway.build.request import SolveRequest
from slipway.build.solve import Reporter, Solver
from slipway.build.solve.solver import listed
from slipway.build.ssh_agent import is_permitted
from slipway.content import BlobLease
from slipway.errors import Invalid, NotFound
from slipway.oci import Digest, Platform, Reference
from slipway.snapshots import LayerRef

_EVENTS = frozenset({"build.step.start", "build.step.done", "build.log", "layer", "warning"})
_OURS = ("event", "build", "service")


class Answers:
    """For as long as the build runs; ``stack`` holds what has to be open for it, ``held`` is the build's lease."""

    def __init__(
        self, request: SolveRequest, solver: Solver, images: BaseImages, imported: Imported, held: BlobLease,
        reporter: Reporter, stack: AsyncExitStack, joining: Joining,
    ) -> None:  # fmt: skip
        self.tell: Callable[[Json], None] = lambda _: None
        self.used: Callable[[tuple[LayerRef, ...]], None] = lambda _: None
        self._joining = joining
        stack.callback(joining.leave, self)
        self._request = request
        self._solver = solver
        self._images = images
        self._imported = imported
        self._held = held
        self._reporter = reporter
        self._stack = stack
        self._known: set[Digest] = set()
        self._first: set[Digest] = set()  # layers that nobody had before this worker sent them
        self._trees: list[Callable[[], Listing]] = []
        self._listings: dict[int, Listing] = {}
        self._questions: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "cache.get": self._cache_get,
            "cache.put": self._cache_put,
            "step.begin": self._step_begin,
            "step.end": self._step_end,
            "imported.step": self._imported_step,
            "imported.mount": self._imported_mount,
            "image": self._image,
            "fetch": self._fetch,
            "secret": self._secret,
            "agent": self._agent,
            "trace.get": self._trace_get,
            "trace.put": self._trace_put,
        }

    # Trees

    def add_tree(self, context: Context, name: str = "") -> int:
        """One of the build's contexts; its number. It stays open as long as this object."""
        self._stack.callback(context.close)
        self._trees.append(lambda: listed(self._request, name, context, self._solver.hashes))
        return len(self._trees) - 1

    async def tree(self, number: int) -> Iterator[bytes]:
        """The lines of a tree's list. Raises ``NotFound``."""
        if number not in self._listings:
            if not 0 <= number < len(self._trees):
                raise NotFound(f"the build has no tree {number}")
            self._listings[number] = await asyncio.to_thread(self._trees[number])
        return self._listings[number].lines()

    def contents(self, number: int, indexes: list[int]) -> Iterator[bytes]:
        """The files of a tree whose list was asked for, one after the other."""
        found = self._listings.get(number)
        if found is None:
            raise NotFound(f"the tree {number} was not listed")
        return found.contents(indexes)

    # Questions

    async def ask(self, what: str, value: Json) -> Json:
        """Raises ``NotFound`` for a question that is none, ``Invalid`` for a malformed one."""
        question = self._questions.get(what)
        if question is None:
            raise NotFound(f"there is no question {what[:40]!r}")
        try:
            return await question(value)
        except (KeyError, TypeError, ValueError) as error:
            raise Invalid(f"a malformed question: {type(error).__name__}: {error}"[:200]) from error

    async def _cache_get(self, value: Json) -> Json:
        return await self._told(await self._solver.cache.get(str(value["key"])))

    async def _imported_step(self, value: Json) -> Json:
        return await self._told(await self._imported.step(str(value["key"]), self._held))

    async def _step_begin(self, value: Json) -> Json:
        """What is known of a step, or whether it is this worker's to do now; else the worker is to ask again."""
        key = str(value["key"])
        if (known := await self._told(await self._solver.cache.get(key))) or await self._joining.begin(
            self._request.project, key, self, lambda: self.tell({"wanted": key})
        ):
            return known
        return {"wait": True}

    async def _step_end(self, value: Json) -> Json:
        self._joining.end(self._request.project, str(value["key"]), self)
        return {}

    async def _told(self, made: Made | None) -> Json:
        if made is None:
            return {}
        if made.layer is not None:
            await self._tell([made.layer])
        return {"made": forms.made_to_json(made)}

    async def _imported_mount(self, value: Json) -> Json:
        layer = await self._imported.mount(str(value["name"]), self._held)
        if layer is None:
            return {}
        await self._tell([layer])
        return {"layer": forms.layer_to_json(layer)}

    async def _cache_put(self, value: Json) -> Json:
        made = forms.made_from_json(value["made"])
        if made.layer is not None:
            digest = made.layer.blob.digest
            if digest not in self._known or await asyncio.to_thread(self._solver.blobs.size, digest) is None:
                raise Invalid(f"the layer {digest} was not sent")
            # What is in a layer of somebody else's is not for this worker to say.
            if value.get("inventory") and digest in self._first:
                inventory = LayerInventory.from_json(value["inventory"])
                await asyncio.to_thread(self._solver.inventories.keep, digest, inventory)
        await self._solver.cache.put(str(value["key"]), made, str(value["description"]))
        self._joining.end(self._request.project, str(value["key"]), self)
        return {}

    async def _image(self, value: Json) -> Json:
        reference, platform = Reference.parse(value["reference"]), Platform.parse(value["platform"])
        image = await self._images.resolve(reference, platform)
        await self._tell(image.layers)
        self.used(image.layers)
        return {"image": forms.image_to_json(image)}

    async def _fetch(self, value: Json) -> Json:
        source = forms.source_from_json(value["source"])
        credentials = Credentials(self._request.secrets)
        fetching = self._solver.remotes.fetched(source, credentials)
        found = await self._stack.enter_async_context(fetching)
        entry = await asyncio.to_thread(found.tree.lstat, found.path)
        below = found.path if entry is not None and entry.kind == "dir" else ""
        self._trees.append(lambda: Listing(found.tree, self._solver.hashes, {}, below))
        return {"tree": len(self._trees) - 1, "path": found.path, "revision": found.revision}

    async def _secret(self, value: Json) -> Json:
        """For a step that is about to run; the worker keeps it in memory, for as long as that takes."""
        found = self._request.secrets.get(str(value["id"]))
        if found is None:
            raise NotFound(f"the build has no secret {str(value['id'])[:100]!r}")
        return {"value": base64.b64encode(found).decode()}

    async def _agent(self, value: Json) -> Json:
        agent = self._request.agents.get(str(value["id"]))
        message = base64.b64decode(str(value["message"]))
        if agent is None or not is_permitted(message):
            raise NotFound(f"the build has no SSH agent {str(value['id'])[:100]!r} for that")
        return {"message": base64.b64encode(await agent.ask(message)).decode()}

    async def _trace_get(self, value: Json) -> Json:
        packed = await asyncio.to_thread(self._solver.traces.packed, self._request.line)
        return {"packed": base64.b64encode(packed).decode()}

    async def _trace_put(self, value: Json) -> Json:
        packed = base64.b64decode(str(value["packed"]))
        await asyncio.to_thread(self._solver.traces.replace, self._request.line, packed)
        return {}

    # Blobs

    async def _tell(self, layers: tuple[LayerRef, ...] | list[LayerRef]) -> None:
        for layer in layers:
            await self.hold(layer.blob.digest)

    async def hold(self, digest: Digest) -> None:
        """Under the build's lease, and from now on known to its worker."""
        await asyncio.to_thread(self._held.add, digest)
        self._known.add(digest)

    def knows(self, digest: Digest) -> bool:
        return digest in self._known

    async def open(self, digest: Digest) -> tuple[BinaryIO, int]:
        """A blob that the worker was told of, and its size. Raises ``NotFound`` for any other."""
        size = await asyncio.to_thread(self._solver.blobs.size, digest) if digest in self._known else None
        if size is None:
            raise NotFound(f"the build has no blob {digest}")
        return await asyncio.to_thread(self._solver.blobs.open, digest), size

    async def receive(self, digest: Digest, pieces: AsyncIterator[bytes]) -> None:
        """A layer that the worker made. Raises ``Invalid`` when it is not what its name says."""
        await asyncio.to_thread(self._held.add, digest)
        is_first = await asyncio.to_thread(self._solver.blobs.size, digest) is None
        with await asyncio.to_thread(self._solver.blobs.writer) as writer:
            held: list[bytes] = []
            async for piece in pieces:
                held.append(piece)
                if sum(map(len, held)) >= 1 << 20:
                    await asyncio.to_thread(writer.write, b"".join(held))
                    held = []
            if held:
                await asyncio.to_thread(writer.write, b"".join(held))
            await asyncio.to_thread(writer.commit, digest)
        self._known.add(digest)
        if is_first:
            self._first.add(digest)

    # Events

    def event(self, value: Json) -> None:
        """Passes on what a build may report; a worker cannot say that its build has ended, or speak for another."""
        kind = str(value.get("event"))
        if kind in _EVENTS:
            fields = {str(name): item for name, item in value.items() if name not in _OURS}
            self._reporter.emit(kind, **fields)
