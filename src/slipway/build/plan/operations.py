"""What an instruction comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.build.dockerfile import Location
from slipway.build.keys import frame
from slipway.oci import ImageConfig, Reference

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage on its way: the configuration so far, and the ARGs in scope."""

    config: ImageConfig
    args: Mapping[str, str] = field(default_factory=dict)

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


@dataclass(frozen=True, slots=True)
class ConfigOp:
    """Changes the configuration (or the scope) only; ``recorded`` if it belongs in the image's history."""

    state: StageState
    created_by: str
    location: Location
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class RunOp:
    """A process. ``unkeyed`` environment (proxies) reaches it but does not change what the result is called."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    unkeyed: tuple[tuple[str, str], ...]
    cwd: str
    user: str
    network: str
    created_by: str
    location: Location

    def definition(self) -> bytes:
        env = frame(*(part for pair in sorted(self.env) for part in pair))
        return frame(frame(*self.argv), env, self.cwd, self.user, self.network)


@dataclass(frozen=True, slots=True)
class FromContext:
    """The build context is what is copied from."""


@dataclass(frozen=True, slots=True)
class FromStage:
    index: int


@dataclass(frozen=True, slots=True)
class FromImage:
    reference: Reference


@dataclass(frozen=True, slots=True)
class CopyOp:
    """Files from a tree. ``dest`` is absolute; its trailing slash is significant."""

    source: FromContext | FromStage | FromImage
    sources: tuple[str, ...]
    dest: str
    chown: str
    chmod: str
    unpack: bool
    heredocs: tuple[tuple[str, str], ...]
    created_by: str
    location: Location

    def definition(self) -> bytes:
        return frame(self.chmod, str(self.unpack))


@dataclass(frozen=True, slots=True)
class WorkdirOp:
    """Makes sure a directory exists; ``state`` has the configuration changed already."""

    state: StageState
    path: str
    created_by: str
    location: Location


Operation = ConfigOp | RunOp | CopyOp | WorkdirOp
