"""The Dockerfile language: text in, typed instructions out. No I/O.

``source`` splits text into logical lines (directives, continuations, heredocs), ``parser`` makes instructions and
stages of them, ``substitution`` expands variables later, when the plan knows their values.
"""

from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
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
from slipway.build.dockerfile.parser import Dockerfile, StageSyntax, parse, parse_instruction
from slipway.build.dockerfile.substitution import expand, expand_words

__all__ = [
    "Arg",
    "Cmd",
    "Copy",
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
    "Onbuild",
    "Run",
    "Shell",
    "StageSyntax",
    "Stopsignal",
    "User",
    "Volume",
    "Workdir",
    "expand",
    "expand_words",
    "parse",
    "parse_instruction",
]
