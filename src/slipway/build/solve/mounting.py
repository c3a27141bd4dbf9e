"""The mounts of a RUN: what they add to its key, and what the sandbox is asked for."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway.build.cache_mounts import CacheMounts
from slipway.build.copy import content_key
from slipway.build.dockerfile import BindMount, CacheMount, SecretMount, SshMount, TmpfsMount
from slipway.build.plan import RunOp, Source
from slipway.build.sandbox import Bind, Layers, SmallFile, StepMount, Tmpfs
from slipway.build.solve.layers import LayerMaker
from slipway.build.ssh_agent import Agent, served
from slipway.build.tree import Tree
from slipway.errors import Invalid, NotFound
from slipway.layers import Entry, Layer, apply_layer
from slipway.oci import MediaType, chain_id
from slipway.snapshots import LayerRef, SnapshotStore

_AGENTS = "/run/buildkit/ssh_agent."
LayersOf = Callable[[Source], Awaitable[tuple[LayerRef, ...] | None]]
"""The layers of a stage or an image; ``None`` for a context, which has none."""
SecretOf = Callable[[str], Awaitable[bytes | None]]
"""The value of a secret by its id, asked for when a step that mounts it is about to run; ``None``: not given."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a step gets: mounts in order, and variables that are secrets."""

    mounts: list[StepMount] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict, repr=False)


class Mounting:
    """Prepares the mounts of one build's steps. ``scope`` is the project: its caches and secret results are its own."""

    def __init__(
        self, maker: LayerMaker, context_of: Callable[[Source], Tree], layers_of: LayersOf, caches: CacheMounts,
        scope: str, secret_of: SecretOf, agents: Mapping[str, Agent],
    ) -> None:  # fmt: skip
        self.used: dict[str, CacheMount] = {}
        self._agents = agents
        self._maker = maker
        self._context_of = context_of
        self._layers_of = layers_of
        self._caches = caches
        self._scope = scope
        self._secret_of = secret_of

    @property
    def _snapshots(self) -> SnapshotStore:
        return self._maker.solver.snapshots

    async def key_parts(self, operation: RunOp) -> list[str]:
        """What the operation's definition cannot tell: the content of what is shown, and whose secrets and caches.

        A secret's value is in no key, so that changing it runs nothing again; but who does not have it must not get
        what was made with it.
        """
        parts = []
        for mount, source in zip(operation.mounts, operation.sources, strict=True):
            if source is not None and isinstance(mount, BindMount | CacheMount):
                parts.append(await self._content(source, mount.source))
            if not isinstance(mount, BindMount | TmpfsMount):
                parts.append(f"project {self._scope}")
        return parts

    async def _content(self, source: Source, path: str) -> str:
        layers = await self._layers_of(source)
        if layers is not None and path.strip("/") in ("", "."):
            return str(chain_id([layer.diff_id for layer in layers]))
        entries = await self._entries(source, layers, path)
        return await asyncio.to_thread(content_key, "mount", b"", entries, self._maker.solver.hashes)

    async def _entries(self, source: Source, layers: tuple[LayerRef, ...] | None, path: str) -> list[Entry]:
        if layers is None:
            return await asyncio.to_thread(entries_at, self._context_of(source), path)
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        view = await asyncio.to_thread(
            self._snapshots.view, chain
        )  # its entries keep what they need of it open
        return await asyncio.to_thread(entries_at, view, path)

    @asynccontextmanager
    async def prepared(self, operation: RunOp) -> AsyncIterator[Prepared]:
        """Everything the step sees; caches are its own for as long as the block runs."""
        found = Prepared()
        async with AsyncExitStack() as stack:
            for mount, source in zip(operation.mounts, operation.sources, strict=True):
                if isinstance(mount, BindMount):
                    assert source is not None
                    found.mounts.append(await self._bind(mount, source))
                elif isinstance(mount, CacheMount):
                    self.used[mount.id] = mount
                    fill = self._filling(mount, source)
                    path = await stack.enter_async_context(self._caches.use(self._scope, mount, fill))
                    found.mounts.append(Bind(path, mount.target, mount.read_only))
                elif isinstance(mount, TmpfsMount):
                    found.mounts.append(Tmpfs(mount.target, mount.size))
                elif isinstance(mount, SecretMount):
                    await self._secret(mount, found)
                else:
                    await self._agent(mount, found, stack)
            for path_, text in operation.files:
                found.mounts.append(SmallFile(path_, text.encode(), 0o755))
            yield found

    async def _agent(self, mount: SshMount, found: Prepared, stack: AsyncExitStack) -> None:
        agent = self._agents.get(mount.id)
        if agent is None:
            if mount.required:
                raise Invalid(
                    f"the build needs the SSH agent {mount.id!r}", hint=f"give it: --ssh {mount.id}"
                )
            return
        number = sum(item.target.startswith(_AGENTS) for item in found.mounts)
        target = mount.target or f"{_AGENTS}{number}"
        directory = self._maker.solver.sockets
        socket = await stack.enter_async_context(served(agent, directory, mount.uid, mount.gid, mount.mode))
        found.mounts.append(Bind(socket, target, read_only=False))
        found.env.setdefault("SSH_AUTH_SOCK", target)

    async def _secret(self, mount: SecretMount, found: Prepared) -> None:
        value = await self._secret_of(mount.id)
        if value is None:
            if mount.required:
                hint = f"give it: --secret id={mount.id},src=FILE or --secret id={mount.id},env=NAME"
                raise Invalid(f"the build needs the secret {mount.id!r}", hint=hint)
            return
        if mount.target:
            found.mounts.append(SmallFile(mount.target, value, mount.mode, mount.uid, mount.gid))
        if mount.env:
            try:
                found.env[mount.env] = value.decode()
            except UnicodeDecodeError as error:
                raise Invalid(f"the secret {mount.id!r} is no text, so it cannot be a variable") from error

    async def _bind(self, mount: BindMount, source: Source) -> Layers:
        layers = await self._layers_of(source)
        path = mount.source
        if layers is None:
            # The context is shown as COPY would see it: without what is ignored, owned by root, and as it was when the
            # key was made.
            entries = await self._entries(source, None, path)
            layers = tuple([made] if (made := await self._layer(entries)) else [])
            path = (
                "/"
                if await asyncio.to_thread(_is_directory, self._context_of(source), path)
                else f"/{entries[0].path}"
            )
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        return Layers(self._snapshots.lowers(chain), path, mount.target, mount.read_write)

    async def _layer(self, entries: list[Entry]) -> LayerRef | None:
        if not entries:
            return None
        key = await asyncio.to_thread(content_key, "copy", b"", entries, self._maker.solver.hashes)

        async def make() -> Layer:
            return await self._maker.write(entries)

        return (await self._maker.made(key, "files for a mount", make)).made.layer

    def _filling(self, mount: CacheMount, source: Source | None) -> Callable[[Path], Awaitable[None]]:
        """What a new one begins with: what an imported cache has of it, or else what its ``from`` says."""

        async def fill(directory: Path) -> None:
            if (kept := await self._maker.imported.mount(mount.id, self._maker.lease)) is not None:
                await asyncio.to_thread(self._unpack, kept, directory)
                return
            if source is None:
                return
            entries = await self._entries(source, await self._layers_of(source), mount.source)
            layer = await self._layer(entries)
            if layer is not None:
                await asyncio.to_thread(self._unpack, layer, directory)

        return fill

    def _unpack(self, layer: LayerRef, directory: Path) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with self._maker.solver.blobs.open(layer.blob.digest) as stream:
                apply_layer(stream, fd, compression=MediaType.compression(layer.blob.media_type))
        finally:
            os.close(fd)


def entries_at(tree: Tree, path: str) -> list[Entry]:
    """What is at ``path`` in a tree: a directory's content, relative to it, or the one file. Raises ``NotFound``."""
    top = _at(tree, path)
    if top.kind != "dir":
        return [replace(top, path=posixpath.basename(top.path))]
    found: list[Entry] = []
    cut = len(top.path) + 1 if top.path else 0
    pending = [top.path]
    while pending:
        for item in tree.iterdir(pending.pop()):
            found.append(replace(item, path=item.path[cut:]))
            if item.kind == "dir":
                pending.append(item.path)
    return sorted(found, key=lambda item: item.path)


def _is_directory(tree: Tree, path: str) -> bool:
    return _at(tree, path).kind == "dir"


def _at(tree: Tree, path: str) -> Entry:
    real = tree.resolve(posixpath.normpath(f"/{path}").strip("/"))
    entry = tree.lstat(real) if real is not None else None
    if real is None or entry is None:
        raise NotFound(
            f"there is no {path!r} to be mounted",
            hint="without from= a mount shows the build context; .dockerignore may exclude it",
        )
    return replace(entry, path=real)
