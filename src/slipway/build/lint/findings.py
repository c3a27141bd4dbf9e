"""What a rule looks at and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from slipway.build.dockerfile import Dockerfile, Location
from slipway.oci import Platform

Found = Iterator[tuple[Location, str]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A Dockerfile and how it is built. ``ignored(path, is_directory)`` is the ignore file's verdict, if there is one.

    ``platforms`` are those of images that are at hand, by their names as written.
    """

    dockerfile: Dockerfile
    build_args: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=Platform.host)
    ignored: Callable[[str, bool], bool] | None = None
    platforms: Mapping[str, Platform] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: the rule's name, where, and what about it."""

    rule: str
    location: Location
    message: str

    @property
    def link(self) -> str:
        """Where the rule is explained."""
        name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.rule).lower()
        return f"https://docs.docker.com/reference/build-checks/{name}/"

    def __str__(self) -> str:
        return f"{self.location.file}:{self.location.line}: {self.rule}: {self.message} ({self.link})"
