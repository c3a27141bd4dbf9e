"""One installed package, and what the world calls it (purl specification)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import quote

KINDS = ("deb", "apk", "rpm", "pypi", "npm")
MAX_TEXT = 500


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """``kind`` is the purl type; ``distribution`` is os-release's ID, for the kinds that belong to one."""

    kind: str
    name: str
    version: str
    architecture: str = ""
    licence: str = ""
    distribution: str = ""

    @property
    def purl(self) -> str:
        name, namespace = self.name, self.distribution
        if self.kind == "pypi":
            name = name.lower().replace("_", "-")
        if self.kind == "npm" and name.startswith("@"):
            namespace, _, name = name.partition("/")
        parts = [quote(part, safe="") for part in (namespace, name) if part]
        text = f"pkg:{self.kind}/{'/'.join(parts)}@{quote(self.version, safe='')}"
        return text + (f"?arch={quote(self.architecture, safe='')}" if self.architecture else "")

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**value)
