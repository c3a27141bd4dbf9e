"""From the server's first word to the build's result."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

from slipway.base.progress import Event
from slipway.build.cache_mounts import CacheMounts
from slipway.build.pod.namespace import id_count
from slipway.build.pod.server import Keys, Server
from slipway.build.pod.stores import (
    FetchingStore,
    KeptInventories,
    ServersCache,
    ServersImages,
    ServersImports,
    ServersTraces,
)
from slipway.build.pod.trees import ServersTrees
from slipway.build.pods.forms import HUNG_UP, Job, Json, error_to_json, job_from_json, solved_to_json
from slipway.build.request import Solved
from slipway.build.sandbox import NestedSandboxes, Sandbox
from slipway.build.solve import Reporter, Solver
from slipway.build.solve.workers import Workers
from slipway.errors import Failed, SlipwayError
from slipway.snapshots import SnapshotStore

log = logging.getLogger(__name__)


async def serve(keys: Keys, directory: Path) -> int:
    """Come in, do one job, say how it ended; the exit code."""
    server = Server(keys)
    doing: asyncio.Task[None] | None = None
    speaking = asyncio.create_task(server.speak())
    try:
        async for message in server.work():
            if "job" in message and doing is None:
                doing = asyncio.create_task(_do(job_from_json(message["job"]), server, directory))
            elif "cancel" in message:
                return 0
        return 0 if doing is not None and doing.done() else HUNG_UP
    except SlipwayError as error:
        log.error("%s", error)
        return HUNG_UP
    finally:
        speaking.cancel()
        if doing is not None:
            doing.cancel()
        await asyncio.gather(speaking, *([doing] if doing else []), return_exceptions=True)
        await server.close()


async def _do(job: Job, server: Server, directory: Path) -> None:
    try:
        word: Json = {"solved": solved_to_json(await _solve(job, server, directory))}
    except SlipwayError as error:
        word = {"error": error_to_json(error)}
    except Exception as error:
        log.exception("an unexpected error")
        word = {"error": error_to_json(Failed(f"the worker failed: {type(error).__name__}: {error}"))}
    await server.flush()
    await server.done(word)


async def _solve(job: Job, server: Server, directory: Path) -> Solved:
    blobs = FetchingStore(directory / "content", server)
    trees = ServersTrees(server, directory / "files")
    inventories = KeptInventories(directory / "inventories", blobs)
    cache = ServersCache(server, blobs, inventories)
    solver = Solver(
        blobs, SnapshotStore(directory / "snapshots", blobs), cache, CacheMounts(directory / "cache-mounts"), trees,
        ServersTraces(directory / "traces", server), directory / "sockets", inventories, job.surroundings,
        opening=trees.open,
    )  # fmt: skip
    sandboxes = NestedSandboxes(directory / "lock", id_count())

    def progress(event: Event) -> None:
        server.say(dict(event))

    reporter = Reporter(job.request.build_id, "", progress)
    async with AsyncExitStack() as stack:

        async def start() -> Sandbox:
            return await stack.enter_async_context(sandboxes.start(job.request.build_id, job.limits))

        stack.push_async_callback(cache.drop)
        images, imports = ServersImages(server, blobs), ServersImports(server)
        solved = await solver.solve(job.request, images, Workers(start), reporter, imports)
        await solver.later.settle()  # nothing of this worker is there afterwards
        await cache.settle()
        return solved
