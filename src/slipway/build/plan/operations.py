"""What an instruction comes to.

Each kind has a ``definition``: everything of it that changes the result, length-framed. Where it stands, how it is
shown and what limits it runs under are no part of that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from slipway.build.dockerfile import BindMount, CacheMount, DeviceRequest, Location, Mount
from slipway.build.keys import frame
from slipway.build.remote.names import RemoteSource
from slipway.oci import ImageConfig, Reference

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage on its way: the configuration so far, and the ARGs in scope.

    It is also what a stage built on this one starts with. ``cmd_stage`` is the stage whose own CMD is in force:
    ENTRYPOINT forgets an inherited CMD, not one of the same stage.
    """

    config: ImageConfig
    args: Mapping[str, str] = field(default_factory=dict)
    cmd_stage: int = -1

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.config.get("Shell") or DEFAULT_SHELL)

    @property
    def values(self) -> dict[str, str]:
        """What ``$NAME`` stands for: ENV always beats ARG."""
        return {**self.args, **self.config.environment}

    @property
    def workdir(self) -> str:
        return str(self.config.config.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        return str(self.config.config.get("User") or "")


@dataclass(frozen=True, slots=True)
class ConfigOp:
    """Changes the configuration (or the scope) only; ``recorded`` if it belongs in the image's history."""

    state: StageState
    created_by: str
    location: Location
    recorded: bool = True

    def definition(self) -> bytes:
        config = json.dumps(dict(self.state.config.config), sort_keys=True, separators=(",", ":"))
        return frame("config", config, self.state.config.author, _pairs(self.state.args.items()))


@dataclass(frozen=True, slots=True)
class FromContext:
    """The build context is what is copied from."""


@dataclass(frozen=True, slots=True)
class FromNamed:
    """A further context, given by name."""

    name: str


@dataclass(frozen=True, slots=True)
class FromStage:
    index: int


@dataclass(frozen=True, slots=True)
class FromImage:
    reference: Reference


Source = FromContext | FromNamed | FromStage | FromImage


@dataclass(frozen=True, slots=True)
class RunOp:
    """A process.

    ``unkeyed`` environment (proxies) reaches it but does not change what the result is called. ``files`` are small
    documents that it finds at their paths, read-only and executable, and that are no part of the layer. ``sources``
    has, for each of the ``mounts``, the tree it shows, if it shows one; the content of that is not in the definition.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    unkeyed: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    network: Literal["none", "default", "host"]
    created_by: str
    location: Location
    security: str = "sandbox"
    mounts: tuple[Mount, ...] = ()
    sources: tuple[Source | None, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    devices: tuple[DeviceRequest, ...] = ()
    hostname: str = ""

    def definition(self) -> bytes:
        return frame(
            frame(*self.argv), _pairs(self.env), self.cwd, self.user, self.network, self.security,
            frame(*(repr(_unnamed(mount)) for mount in self.mounts)), _pairs(self.files),
            *([self.hostname] if self.hostname else []),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CopyOp:
    """Files from a tree, and from elsewhere. ``dest`` is absolute; its trailing slash is significant.

    ``chmod`` is four or five octal digits, or clauses like ``u=rwX`` joined with ``,``. Its definition is what the
    entries themselves cannot tell: they carry paths, owners, modes and contents into the key.
    """

    source: Source
    sources: tuple[str, ...]
    dest: str
    chown: str
    chmod: str
    unpack: bool
    heredocs: tuple[tuple[str, str], ...]
    created_by: str
    location: Location
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    remotes: tuple[RemoteSource, ...] = ()
    unpack_remote: bool = False

    def definition(self) -> bytes:
        return frame(self.chmod, str(self.unpack))

    def whole(self) -> bytes:
        """All of it that says what lands where, for those who have not looked at the entries."""
        flags = f"{self.unpack} {self.parents} {self.link}"
        return frame(
            frame(*self.sources), self.dest, self.chown, self.chmod, flags, _pairs(self.heredocs),
            frame(*self.exclude),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorkdirOp:
    """Makes sure a directory exists; ``state`` has the configuration changed already.

    ``user`` is the USER in force: who a directory belongs to that has to be made.
    """

    state: StageState
    path: str
    created_by: str
    location: Location
    user: str = ""

    def definition(self) -> bytes:
        return frame(self.path, self.user)


Operation = ConfigOp | RunOp | CopyOp | WorkdirOp


def _pairs(items: Iterable[tuple[str, str]]) -> bytes:
    return frame(*(part for pair in sorted(items) for part in pair))


def _unnamed(mount: Mount) -> Mount:
    """Without the name of the stage it shows, which may change when nothing else does."""
    return replace(mount, from_="") if isinstance(mount, BindMount | CacheMount) else mount
