"""From the server's first word to the build's result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.base.progress import Event
from slipway.build.cache_mounts import CacheMounts
from slipway.build.devices import no_devices
from slipway.build.pod.daemon import build_by_daemon
from slipway.build.pod.joining import JoinedSteps
from slipway.build.pod.namespace import id_count
from slipway.build.pod.server import Keys, Server
from slipway.build.pod.stores import (
    FetchingStore,
    KeptInventories,
    ServersAgent,
    ServersCache,
    ServersImages,
    ServersImports,
    ServersSecrets,
    ServersTraces,
)
from slipway.build.pod.trees import ServersTrees
from slipway.build.pods.forms import (
    HUNG_UP,
    Job,
    Json,
    error_to_json,
    job_from_json,
    layer_from_json,
    solved_to_json,
)
from slipway.build.policy import INSECURE
from slipway.build.request import Solved
from slipway.build.sandbox import NestedSandboxes, Sandbox
from slipway.build.shared_cache_mounts import SharedCacheMounts
from slipway.build.solve import Reporter, Solver
from slipway.build.solve.workers import Workers
from slipway.errors import Failed, SlipwayError
from slipway.snapshots import LayerRef, SnapshotStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Here:
    """What a worker has: a directory that ends with it, ``kept`` for cache mounts that outlive it.

    ``in_place``: it is in no user namespace of its own, and a RUN is the container's root.
    """

    directory: Path
    kept: Path | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Stores:
    """What is here of base images; the same for a build and for what is done before there is one."""

    blobs: FetchingStore
    snapshots: SnapshotStore

    @classmethod
    def make(cls, here: Here, server: Server) -> Stores:
        blobs = FetchingStore(here.directory / "content", server)
        return cls(blobs, SnapshotStore(here.directory / "snapshots", blobs))

    async def prepare(self, layers: Sequence[LayerRef]) -> None:
        """Unpack a base image. What fails is said, and left to the build that needs it."""
        self.blobs.together([layer.blob.digest for layer in layers])
        try:
            await asyncio.to_thread(self.snapshots.ensure, layers)
        except (SlipwayError, OSError) as error:
            log.warning("a base image could not be unpacked beforehand: %s", error)


async def serve(keys: Keys, here: Here) -> int:
    """Come in, do one job, say how it ended; the exit code."""
    server = Server(keys)
    doing: asyncio.Task[None] | None = None
    preparing: list[asyncio.Task[None]] = []
    stores = Stores.make(here, server)
    speaking = asyncio.create_task(server.speak())
    try:
        async for message in server.work():
            if "job" in message and doing is None:
                doing = asyncio.create_task(_do(job_from_json(message["job"]), server, here, stores))
            elif "unpack" in message:
                layers = [layer_from_json(item) for item in message["unpack"]]
                preparing.append(asyncio.create_task(stores.prepare(layers)))
            elif "wanted" in message:
                server.wanted(message["wanted"])
            elif "cancel" in message:
                return 0
        return 0 if doing is not None and doing.done() else HUNG_UP
    except SlipwayError as error:
        log.error("%s", error)
        return HUNG_UP
    finally:
        own = [speaking, *preparing, *([doing] if doing else [])]
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)
        await server.close()


async def _do(job: Job, server: Server, here: Here, stores: Stores) -> None:
    try:
        if job.daemon is not None:
            solved = await build_by_daemon(job.daemon, job, server, here.directory)
        else:
            solved = await _solve(job, server, here, stores)
        word: Json = {"solved": solved_to_json(solved)}
    except SlipwayError as error:
        word = {"error": error_to_json(error)}
    except Exception as error:
        log.exception("an unexpected error")
        word = {"error": error_to_json(Failed(f"the worker failed: {type(error).__name__}: {error}"))}
    await server.flush()
    await server.done(word)


async def _solve(job: Job, server: Server, here: Here, stores: Stores) -> Solved:
    directory, blobs = here.directory, stores.blobs
    trees = ServersTrees(server, directory / "files")
    inventories = KeptInventories(directory / "inventories", blobs)
    cache = ServersCache(server, blobs, inventories)
    solver = Solver(
        blobs, stores.snapshots, cache, await _cache_mounts(here), trees,
        ServersTraces(directory / "traces", server), directory / "sockets", inventories, job.surroundings,
        opening=trees.open, secret_of=ServersSecrets(server).of, devices=no_devices,
        in_flight=JoinedSteps(server),
    )  # fmt: skip
    sandboxes = NestedSandboxes(
        directory / "lock", 0 if here.in_place else id_count(), in_place=here.in_place
    )

    def progress(event: Event) -> None:
        server.say(dict(event))

    reporter = Reporter(job.request.build_id, "", progress)
    async with AsyncExitStack() as stack:

        async def start() -> Sandbox:
            return await stack.enter_async_context(sandboxes.start(job.request.build_id, job.limits))

        stack.push_async_callback(cache.drop)
        images, imports = ServersImages(server, blobs), ServersImports(server)
        # Every capability of such a Pod is one of the node's.
        granted = job.request.granted - ({INSECURE} if here.in_place else frozenset())
        request = replace(
            job.request, granted=granted, agents={name: ServersAgent(server, name) for name in job.agents}
        )
        workers = Workers(start)
        early = asyncio.create_task(workers.sandbox())  # while the server is asked what the build stands on
        try:
            solved = await solver.solve(request, images, workers, reporter, imports)
            await solver.later.settle()  # nothing of this worker is there afterwards
            await cache.settle()
            return solved
        finally:
            early.cancel()
            await asyncio.gather(early, return_exceptions=True)


async def _cache_mounts(here: Here) -> CacheMounts:
    if here.kept is None:
        return CacheMounts(here.directory / "cache-mounts")
    found = SharedCacheMounts(here.kept)
    await asyncio.to_thread(found.make_room)
    return found
