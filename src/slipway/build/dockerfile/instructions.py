"""The instructions as values. Words are kept unexpanded: variables get their values in the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slipway.build.dockerfile.devices import DeviceRequest
from slipway.build.dockerfile.errors import Location
from slipway.build.dockerfile.heredocs import Heredoc
from slipway.build.dockerfile.mounts import MountText


@dataclass(frozen=True, slots=True)
class _Instruction:
    """``original`` is the text as written, continuations joined."""

    location: Location
    original: str


@dataclass(frozen=True, slots=True)
class From(_Instruction):
    """``name`` is lower case, or empty; ``platform`` is the flag's text."""

    base: str
    name: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg(_Instruction):
    """Names with their defaults (``None``: none)."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Env(_Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label(_Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Command(_Instruction):
    """What runs something: ``exec_form`` if it was a JSON array, else one shell string."""

    words: tuple[str, ...]
    exec_form: bool


@dataclass(frozen=True, slots=True)
class Run(Command):
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[MountText, ...] = ()
    network: Literal["none", "default", "host"] = "default"
    security: str = "sandbox"
    devices: tuple[DeviceRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class Cmd(Command):
    pass


@dataclass(frozen=True, slots=True)
class Entrypoint(Command):
    pass


@dataclass(frozen=True, slots=True)
class Shell(_Instruction):
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy(_Instruction):
    """COPY, and ADD with ``is_add``. The destination is the last word; heredocs stand among the sources.

    ``unpack`` is ``None`` when not given: ADD then unpacks local archives only.
    """

    sources: tuple[str, ...]
    dest: str
    is_add: bool = False
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None


@dataclass(frozen=True, slots=True)
class Workdir(_Instruction):
    path: str


@dataclass(frozen=True, slots=True)
class User(_Instruction):
    user: str


@dataclass(frozen=True, slots=True)
class Expose(_Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(_Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stopsignal(_Instruction):
    signal: str


@dataclass(frozen=True, slots=True)
class Maintainer(_Instruction):
    author: str


@dataclass(frozen=True, slots=True)
class Healthcheck(_Instruction):
    """``test`` is empty for NONE; durations are nanoseconds, 0 for the default."""

    test: tuple[str, ...]
    exec_form: bool = False
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Onbuild(_Instruction):
    """``trigger`` is the instruction's text with its heredocs, as an image stores it; ``instruction`` is it parsed."""

    trigger: str
    instruction: Instruction


Instruction = (
    From | Arg | Env | Label | Run | Cmd | Entrypoint | Shell | Copy | Workdir | User | Expose | Volume | Stopsignal
    | Maintainer | Healthcheck | Onbuild
)  # fmt: skip
