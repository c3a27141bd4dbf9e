"""One build by a Docker daemon, from context to layers in the content store."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from typing import BinaryIO
from urllib.parse import quote

from slipway.base.ids import new_id
from slipway.build.builders.archive import Imported, import_archive
from slipway.build.builders.dind import inner_engine, remove_left
from slipway.build.builders.engine import Engine
from slipway.build.builders.record import BuilderRecord
from slipway.build.builders.sending import OpenContexts, Sending
from slipway.build.context import Context
from slipway.build.request import Solved, SolveRequest
from slipway.build.sandbox import Limits
from slipway.build.solve import Reporter
from slipway.build.solve.report import Step
from slipway.content import BlobLease, ContentStore
from slipway.errors import Failed, SlipwayError, Unsupported

_STEP = re.compile(r"Step (\d+/\d+) : (.*)", re.DOTALL)
_LABEL = "org.slipway.build"
_CACHED = " ---> Using cache"


class ForeignBuilder:
    """Builds at a daemon that ``record`` names, for the server of this ``mark``.

    Cancelling ends the build there, too.
    """

    def __init__(
        self, record: BuilderRecord, blobs: ContentStore, mark: str, opening: OpenContexts = Context
    ) -> None:
        self._opening = opening
        self._record = record
        self._mark = mark
        self._blobs = blobs

    async def build(
        self, request: SolveRequest, limits: Limits, lease: BlobLease, reporter: Reporter
    ) -> Solved:
        """Raises ``Unsupported`` for what only our own worker does, ``Failed`` for a failing step."""
        refuse(self._record.name, request)
        async with self._engine(limits) as engine:
            tag = f"slipway-build:{request.build_id or new_id()}"
            try:
                cached = await self._run(engine, request, tag, limits, reporter)
                config, layers = await self._fetch(engine, tag, lease)
            finally:
                await asyncio.shield(_remove(engine, tag))
        return Solved(config, layers, cached)

    @asynccontextmanager
    async def _engine(self, limits: Limits) -> AsyncIterator[Engine]:
        async with Engine(self._record.address, self._record.tls) as outer:
            if self._record.kind != "dind":
                yield outer
                return
            async with inner_engine(outer, self._record.image, limits, self._mark) as inner:
                yield inner

    async def _run(
        self, engine: Engine, request: SolveRequest, tag: str, limits: Limits, reporter: Reporter
    ) -> bool:
        """Follow the build's output; whether all of it came from the daemon's cache."""
        sending = Sending(request, self._opening)
        query = {
            "version": "1", "t": tag, "dockerfile": sending.dockerfile, "rm": "1", "forcerm": "1",
            "buildargs": json.dumps(dict(request.args)),
            "labels": json.dumps({**request.labels, _LABEL: request.build_id}),
            "nocache": "1" if request.no_cache else "0", "platform": str(request.platform),
        }  # fmt: skip
        if request.target:
            query["target"] = request.target
        if limits.memory:
            query |= {"memory": str(limits.memory), "memswap": str(limits.memory)}
        if limits.cpus:
            query |= {"cpuperiod": "100000", "cpuquota": str(int(limits.cpus * 100_000))}
        follower = _Follower(reporter)
        try:
            async for event in engine.events("/build", query, sending.pieces()):
                follower.event(event)
        finally:
            follower.close()
        return follower.cached

    async def _fetch(self, engine: Engine, tag: str, lease: BlobLease) -> Imported:
        """The finished image, streamed through a pipe into the content store."""
        read, write = os.pipe()
        with os.fdopen(read, "rb", buffering=0) as stream:
            taking = asyncio.create_task(asyncio.to_thread(_imported, stream, self._blobs, lease))
            try:
                async for piece in engine.download(f"/images/{quote(tag, safe='')}/get"):
                    if taking.done():
                        break
                    await asyncio.to_thread(_write, write, piece)
            except BrokenPipeError:
                pass  # what the reader has to say follows
            finally:
                os.close(write)
                await asyncio.wait({taking})
        return taking.result()


def refuse(name: str, request: SolveRequest) -> None:
    """Raises ``Unsupported`` for what no daemon does. ``name`` is the builder's."""
    asked = {
        "--secret": request.secrets, "--ssh": request.agents, "--build-context": request.contexts,
        "--cache-from": request.cache_from, "--cache-to": request.cache_to, "--no-cache-filter": request.uncached,
        "SOURCE_DATE_EPOCH": request.epoch,
    }  # fmt: skip
    for flag, value in asked.items():
        if value:
            raise Unsupported(
                f"the builder {name!r} cannot do {flag}",
                hint="leave out --builder: our own worker can",
            )


async def recover(records: Iterable[BuilderRecord], mark: str) -> None:
    """Remove daemons that were started for builds of a server that was killed. One that does not answer is left."""
    for record in records:
        if record.kind == "dind" and not record.in_pod:
            with suppress(SlipwayError):
                async with Engine(record.address) as outer:
                    await remove_left(outer, mark)


class _Follower:
    """Turns the daemon's log into steps and their output."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._open: tuple[AbstractContextManager[Step], Step] | None = None
        self.cached = True

    def event(self, event: dict[str, object]) -> None:
        if "error" in event:
            self._fail(str(event["error"]))
        text = str(event.get("stream") or event.get("status") or "")
        match = _STEP.fullmatch(text.rstrip("\n"))
        if match:
            self.close()
            context = self._reporter.step(match[1], match[2])
            self._open = (context, context.__enter__())
        elif self._open is not None and text.strip():
            if text.startswith(_CACHED):
                self._open[1].cached = True
            else:
                self._open[1].output("stdout", text.encode("utf-8", "replace"))

    def close(self) -> None:
        if self._open is not None:
            context, step = self._open
            self.cached = self.cached and step.cached
            context.__exit__(None, None, None)
            self._open = None

    def _fail(self, message: str) -> None:
        step = self._open[1] if self._open else None
        tail = "\n".join(f"  | {line}" for line in step.tail) if step else ""
        name = f"{step.name.splitlines()[0][:200]}: " if step else ""
        raise Failed(
            f"{name}{message[:1000]}" + (f"\n{tail}" if tail else ""), hint="the Docker daemon said so"
        )


def _imported(stream: BinaryIO, blobs: ContentStore, lease: BlobLease) -> Imported:
    found = import_archive(stream, blobs, lease)
    while stream.read(1 << 20):
        pass  # a writer must not wait for a reader that has what it wants
    return found


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


async def _remove(engine: Engine, tag: str) -> None:
    """The image at the daemon; its cache stays there, as it would for its own users."""
    with suppress(SlipwayError):
        await engine.ask("DELETE", f"/images/{quote(tag, safe='')}", {"force": "1", "noprune": "1"})
