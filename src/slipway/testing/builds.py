"""Dockerfiles carried out by the real solver, sandbox and stores, without a platform around them. Needs root."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.base.ids import new_id
from slipway.base.progress import Event
from slipway.build.attest import Inventories
from slipway.build.base_images import BaseImage
from slipway.build.cache import BuildCache
from slipway.build.cache_mounts import CacheMounts
from slipway.build.explain import Traces
from slipway.build.remote import Remotes
from slipway.build.request import Solved, SolveRequest
from slipway.build.sandbox import Sandbox, Sandboxes
from slipway.build.solve import Reporter, Solver
from slipway.build.solve.workers import Workers
from slipway.content import LocalStore
from slipway.errors import NotFound
from slipway.layers import import_tar
from slipway.oci import Digest, ImageConfig, Platform, Reference
from slipway.snapshots import LayerRef, RootView, SnapshotStore
from slipway.state import Database
from slipway.testing.busybox import busybox_tar
from slipway.testing.sandboxes import PLENTY


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished build: the image, its root, its events."""

    solved: Solved
    root: RootView
    events: list[dict[str, Any]] = field(repr=False)

    def text(self, path: str) -> str:
        data = self.root.read(path)
        assert data is not None, f"/{path} is not there"
        return data.decode()

    def paths(self, below: str = "") -> list[str]:
        """Every path below a directory, without the base's."""
        return [entry.path for entry in self.root.walk(below)]

    @property
    def log(self) -> str:
        return "\n".join(event["text"] for event in self.events if event["event"] == "build.log")

    @property
    def ran(self) -> list[str]:
        """The steps that had to be done."""
        return [e["name"] for e in self.events if e["event"] == "build.step.done" and not e["cached"]]


class BuildBench:
    """One server's build room. ``images`` are by reference; ``busybox`` is there from the start."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.blobs = LocalStore(directory / "content")
        self.snapshots = SnapshotStore(directory / "snapshots", self.blobs)
        self.database = Database.sqlite(directory / "state.db")
        self.caches = CacheMounts(directory / "cache-mounts")
        self.sandboxes = Sandboxes(directory / "builds", None)
        cache = BuildCache(self.database, self.blobs)
        remotes = Remotes(directory / "remotes")
        self.solver = Solver(
            self.blobs,
            self.snapshots,
            cache,
            self.caches,
            remotes,
            Traces(directory / "traces"),
            directory / "sockets",
            Inventories(directory / "inventories", self.blobs),
        )
        self.limits = PLENTY
        self.images: dict[str, BaseImage] = {}

    async def resolve(self, reference: Reference, platform: Platform) -> BaseImage:
        try:
            return self.images[str(reference).removesuffix(":latest")]
        except KeyError as error:
            raise NotFound(f"there is no image {reference}") from error

    async def open(self) -> None:
        await self.database.migrate()
        self.keep("busybox", busybox_tar(), {"Env": ["PATH=/bin"]})

    async def close(self) -> None:
        await self.solver.later.settle()
        await self.database.dispose()

    def keep(self, name: str, archive: bytes, config: Mapping[str, Any]) -> None:
        """An image of one layer."""
        layer = import_tar(self.blobs, io.BytesIO(archive))
        made = ImageConfig(Platform.host(), (layer.diff_id,), dict(config))
        self.images[name] = BaseImage(
            Digest.of(name.encode()), made, (LayerRef(layer.diff_id, layer.descriptor),)
        )

    async def build(self, dockerfile: str | None, context: Path | None = None, **values: Any) -> Outcome:
        """Build an inline Dockerfile, or the context's own. ``values`` are those of ``SolveRequest``."""
        empty = self.directory / "empty"
        empty.mkdir(exist_ok=True)
        build_id = new_id(12)
        events: list[dict[str, Any]] = []

        def progress(event: Event) -> None:
            events.append(dict(event))

        request = SolveRequest(build_id, context or empty, inline=dockerfile, **values)
        async with self.workers(build_id) as workers:
            solved = await self.solver.solve(request, self, workers, Reporter(build_id, "", progress))
        chain = self.snapshots.ensure(solved.layers)
        return Outcome(solved, self.snapshots.view(chain), events)

    @asynccontextmanager
    async def workers(self, build_id: str) -> AsyncIterator[Workers]:
        """For ``Solver.solve``; the sandbox ends with the block."""

        async def start() -> Sandbox:
            return await self.sandboxes.open(build_id, self.limits)

        workers = Workers(start)
        try:
            yield workers
        finally:
            await workers.close()
