"""A build that a Docker daemon does for the worker: the context goes there, the finished image comes from there."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from slipway.base.progress import Event
from slipway.build.builders import BuilderRecord, ForeignBuilder
from slipway.build.builders.engine import Engine
from slipway.build.pod.server import Server
from slipway.build.pod.stores import FetchingStore
from slipway.build.pod.trees import ServersTrees
from slipway.build.pods.forms import Job
from slipway.build.request import Solved
from slipway.build.solve import Reporter
from slipway.content import holding
from slipway.errors import SlipwayError

_READY_SECONDS = 90.0
_PAUSE = 0.1
_LEASE = timedelta(hours=12)


async def build_by_daemon(daemon: BuilderRecord, job: Job, server: Server, directory: Path) -> Solved:
    """Its layers are at the server when this returns. Raises what the daemon says, ``Unavailable`` without one."""
    blobs = FetchingStore(directory / "content", server)
    trees = ServersTrees(server, directory / "files")

    def progress(event: Event) -> None:
        server.say(dict(event))

    reporter = Reporter(job.request.build_id, "", progress)
    # What the server calls dind is here a daemon that has its own container already.
    here = BuilderRecord(
        daemon.name, "remote" if daemon.kind == "remote" else "socket", daemon.address, daemon.tls
    )
    async with holding(blobs, "image of a daemon", ttl=_LEASE) as lease:
        await _until_ready(daemon)
        solved = await ForeignBuilder(here, blobs, "", trees.open).build(
            job.request, job.limits, lease, reporter
        )
        for digest in {layer.blob.digest for layer in solved.layers}:
            await server.upload(digest, blobs.path(digest))
    return solved


async def _until_ready(daemon: BuilderRecord) -> None:
    """A daemon beside us has begun when we have; any other is there or not. Raises ``Unavailable``."""
    end = asyncio.get_running_loop().time() + (_READY_SECONDS if daemon.kind == "dind" else 0.0)
    async with Engine(daemon.address, daemon.tls) as engine:
        while True:
            try:
                await engine.ask("GET", "/version")
                return
            except SlipwayError:
                if asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(_PAUSE)
