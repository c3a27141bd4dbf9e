"""Platforms: ``os/architecture[/variant]``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Self

from slipway.errors import Invalid

_WORD = re.compile(r"[a-z0-9_.]+")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm"}


@dataclass(frozen=True, slots=True)
class Platform:
    """One operating system and architecture, in Go's words (``linux``, ``amd64``, ``v8``)."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", *parts]
        if len(parts) > 3 or not all(_WORD.fullmatch(part) for part in parts):
            raise Invalid(f"not a platform: {text[:100]!r}", hint="a platform looks like linux/amd64")
        variant = parts[2] if len(parts) == 3 else ""
        architecture = _ALIASES.get(parts[1], parts[1])
        if architecture == "arm64" and variant == "v8":
            variant = ""
        return cls(parts[0], architecture, variant)

    @classmethod
    def host(cls) -> Self:
        machine = os.uname().machine
        return cls("linux", _MACHINES.get(machine, machine), "v7" if machine == "armv7l" else "")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(value.get("os", ""), value.get("architecture", ""), value.get("variant", ""))

    def to_json(self) -> dict[str, Any]:
        out = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            out["variant"] = self.variant
        return out

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
