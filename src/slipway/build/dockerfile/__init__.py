"""The Dockerfile language: text in, typed instructions out. No I/O.

The way of a text: ``lines`` (comments, continuations, ``directives``, ``heredocs``) → ``arguments`` with ``words`` and
``flags`` → ``readers`` (one for each instruction, ``mounts`` for RUN) → ``parser`` (stages). Variables get their
values later, when the plan knows them: ``expressions`` reads a word, ``substitution`` and ``patterns`` evaluate it.

Invariants: ``parse`` raises nothing but ``DockerfileError``, with file, line, column and a caret; words of an
instruction are kept as written; no text, however hostile, costs more than time and memory in proportion to its length
and to the bounds named in ``lines``, ``expressions``, ``substitution`` and ``patterns``.
"""

from slipway.build.dockerfile.devices import DeviceRequest
from slipway.build.dockerfile.directives import Check, Directives
from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.heredocs import Heredoc, opening
from slipway.build.dockerfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from slipway.build.dockerfile.lines import is_text
from slipway.build.dockerfile.mounts import (
    BindMount,
    CacheMount,
    Mount,
    MountText,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from slipway.build.dockerfile.parser import Dockerfile, StageSyntax, parse
from slipway.build.dockerfile.substitution import expand, expand_words

__all__ = [
    "Arg",
    "BindMount",
    "CacheMount",
    "Check",
    "Cmd",
    "Copy",
    "DeviceRequest",
    "Directives",
    "Dockerfile",
    "DockerfileError",
    "Entrypoint",
    "Env",
    "Expose",
    "From",
    "Healthcheck",
    "Heredoc",
    "Instruction",
    "Label",
    "Location",
    "Maintainer",
    "Mount",
    "MountText",
    "Onbuild",
    "Run",
    "SecretMount",
    "Shell",
    "SshMount",
    "StageSyntax",
    "Stopsignal",
    "TmpfsMount",
    "User",
    "Volume",
    "Workdir",
    "expand",
    "expand_words",
    "is_text",
    "opening",
    "parse",
]
