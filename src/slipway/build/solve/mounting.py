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
_STRICTER = ("shared", "private", "locked")
LayersOf = Callable[[Source], Awaitable[tuple[LayerRef, ...] | None]]
"""The layers of a stage or an image; ``None`` for a context, which has none."""
SecretOf = Callable[[str], Awaitable[bytes | None]]
"""The value of a secret by its id, asked for when a step that mounts it is about to run; ``None``: not given."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a step gets: mounts in order, and variables that are secrets. ``kept`` are its kept directories."""

    mounts: list[StepMount] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a mount shows of a tree: the directory, with its content relative to it, or the one file."""

    top: Entry
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Looked:
    """What is to be seen before a step runs: what its mounts add to its key, and what each shows of a context."""

    parts: list[str] = field(default_factory=list)
    shown: list[Shown | None] = field(default_factory=list)


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

    async def looked(self, operation: RunOp) -> Looked:
        """What the operation's definition cannot tell: the content of what is shown, and whose secrets and caches.

        A secret's value is in no key, so that changing it runs nothing again; but who does not have it must not get
        what was made with it. A proxy is in none either, and whoever names one can put anything into what comes
        through it.
        """
        found = Looked()
        for mount, source in zip(operation.mounts, operation.sources, strict=True):
            shown = None
            if source is not None and isinstance(mount, BindMount | CacheMount):
                part, shown = await self._content(source, mount.source)
                found.parts.append(part)
            if not isinstance(mount, BindMount | TmpfsMount):
                found.parts.append(f"project {self._scope}")
            found.shown.append(shown)
        if operation.unkeyed:
            found.parts.append(f"project {self._scope}")
        return found

    async def _content(self, source: Source, path: str) -> tuple[str, Shown | None]:
        """What says which content it is, and, if that could change until it is mounted, the content."""
        layers = await self._layers_of(source)
        if layers is not None and path.strip("/") in ("", "."):
            return str(chain_id([layer.diff_id for layer in layers])), None
        shown = await self._shown(source, layers, path)
        top = shown.top
        # A directory of the context is one of ours in the step, whatever its mode.
        about = top.kind if layers is None else f"{top.kind} {top.mode:o} {top.uid} {top.gid}"
        hashes = self._maker.solver.hashes
        key = await asyncio.to_thread(content_key, "mount", about.encode(), shown.entries, hashes)
        return key, shown if layers is None else None

    async def _shown(self, source: Source, layers: tuple[LayerRef, ...] | None, path: str) -> Shown:
        if layers is None:
            return await asyncio.to_thread(shown_at, self._context_of(source), path)
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        view = await asyncio.to_thread(
            self._snapshots.view, chain
        )  # its entries keep what they need of it open
        return await asyncio.to_thread(shown_at, view, path)

    @asynccontextmanager
    async def prepared(self, operation: RunOp, looked: Looked) -> AsyncIterator[Prepared]:
        """Everything the step sees; caches are its own for as long as the block runs."""
        found = Prepared()
        async with AsyncExitStack() as stack:
            kept = await self._kept(operation, stack)
            for mount, source, shown in zip(operation.mounts, operation.sources, looked.shown, strict=True):
                if isinstance(mount, BindMount):
                    assert source is not None
                    found.mounts.append(await self._bind(mount, source, shown))
                elif isinstance(mount, CacheMount):
                    found.mounts.append(Bind(kept[mount.id], mount.target, mount.read_only))
                elif isinstance(mount, TmpfsMount):
                    found.mounts.append(Tmpfs(mount.target, mount.size))
                elif isinstance(mount, SecretMount):
                    await self._secret(mount, found)
                else:
                    await self._agent(mount, found, stack)
            for path_, text in operation.files:
                found.mounts.append(SmallFile(path_, text.encode(), 0o755))
            found.kept.extend(kept.values())
            yield found

    async def _kept(self, operation: RunOp, stack: AsyncExitStack) -> dict[str, Path]:
        """The kept directories of a step, by id.

        Each is taken once, in the strictest way that is asked for, and all steps take theirs in the same order: two
        that want the same ones alone would wait for each other for ever, and one that wants the same twice for itself.
        """
        wanted: dict[str, tuple[CacheMount, Source | None]] = {}
        for mount, source in zip(operation.mounts, operation.sources, strict=True):
            if isinstance(mount, CacheMount):
                self.used[mount.id] = mount
                known = wanted.get(mount.id)
                if known is None or _STRICTER.index(mount.sharing) > _STRICTER.index(known[0].sharing):
                    wanted[mount.id] = mount, source
        found: dict[str, Path] = {}
        for name, (mount, source) in sorted(wanted.items()):
            fill = self._filling(mount, source)
            found[name] = await stack.enter_async_context(self._caches.use(self._scope, mount, fill))
        return found

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

    async def _bind(self, mount: BindMount, source: Source, shown: Shown | None) -> Layers:
        layers = await self._layers_of(source)
        path = mount.source
        if layers is None:
            # The context is shown as COPY would see it: without what is ignored, owned by root, and as it was when the
            # key was made.
            assert shown is not None
            layers = tuple([made] if (made := await self._layer(shown.entries)) else [])
            path = "/" if shown.top.kind == "dir" else f"/{shown.entries[0].path}"
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
            shown = await self._shown(source, await self._layers_of(source), mount.source)
            layer = await self._layer(shown.entries)
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


def shown_at(tree: Tree, path: str) -> Shown:
    """What is at ``path`` in a tree. Raises ``NotFound``."""
    top = _at(tree, path)
    if top.kind != "dir":
        return Shown(top, [replace(top, path=posixpath.basename(top.path))])
    found: list[Entry] = []
    cut = len(top.path) + 1 if top.path else 0
    pending = [top.path]
    while pending:
        for item in tree.iterdir(pending.pop()):
            found.append(replace(item, path=item.path[cut:]))
            if item.kind == "dir":
                pending.append(item.path)
    return Shown(top, sorted(found, key=lambda item: item.path))


def _at(tree: Tree, path: str) -> Entry:
    real = tree.resolve(posixpath.normpath(f"/{path}").strip("/"))
    entry = tree.lstat(real) if real is not None else None
    if real is None or entry is None:
        raise NotFound(
            f"there is no {path!r} to be mounted",
            hint="without from= a mount shows the build context; .dockerignore may exclude it",
        )
    return replace(entry, path=real)
