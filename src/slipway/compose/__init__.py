"""Compose files: loaded, merged, interpolated, validated into one immutable model. No I/O but reading the files.

Strict with what a person wrote: unknown keys are refused with their place and a suggestion, keys of the specification
that we cannot honour yet are refused by name, and every name that later becomes a path, an argument or a line of a
configuration file on the host is checked here. ``x-`` keys are kept. The model survives as JSON, because releases
store it.

``document`` knows YAML and places, ``merge`` lays files over each other, ``services`` and its neighbours read the keys.
"""

from slipway.compose.errors import ComposeError
from slipway.compose.load import find_files, load
from slipway.compose.model import (
    Build,
    DependsOn,
    FileMount,
    HealthTest,
    Network,
    NetworkUse,
    Port,
    Project,
    Service,
    VolumeMount,
)
from slipway.compose.refusals import Refusal, Refuse

__all__ = [
    "Build",
    "ComposeError",
    "DependsOn",
    "FileMount",
    "HealthTest",
    "Network",
    "NetworkUse",
    "Port",
    "Project",
    "Refusal",
    "Refuse",
    "Service",
    "VolumeMount",
    "find_files",
    "load",
]
