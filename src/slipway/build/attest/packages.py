"""One installed package, and what the world calls it (purl specification)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import quote

KINDS = ("deb", "apk", "rpm", "pypi", "npm")
MAX_TEXT = 500


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """``kind`` is the purl type; ``distribution`` and ``release`` are os-release's ID and VERSION_ID (or code name),
    for the kinds that belong to one. ``source`` is the source package this one was built from, where its name or
    version differ from this one's: advisories of distributions name sources."""

    kind: str
    name: str
    version: str
    architecture: str = ""
    licence: str = ""
    distribution: str = ""
    release: str = ""
    source: str = ""
    source_version: str = ""

    @property
    def purl(self) -> str:
        name, namespace = self.name, self.distribution
        if self.kind == "pypi":
            name = name.lower().replace("_", "-")
        if self.kind == "npm" and name.startswith("@"):
            namespace, _, name = name.partition("/")
        parts = [quote(part, safe="") for part in (namespace, name) if part]
        text = f"pkg:{self.kind}/{'/'.join(parts)}@{quote(self.version, safe='')}"
        distro = f"{self.distribution}-{self.release}" if self.distribution and self.release else ""
        qualifiers = {"arch": self.architecture, "distro": distro, "upstream": self._upstream()}
        told = "&".join(f"{key}={quote(value, safe='')}" for key, value in qualifiers.items() if value)
        return f"{text}?{told}" if told else text

    def _upstream(self) -> str:
        """The source in the form that scanners know: ``name``, ``name@version``, or the name of a source RPM."""
        if not self.source:
            return ""
        if self.kind == "rpm":
            return f"{self.source}-{self.source_version}.src.rpm"
        return f"{self.source}@{self.source_version}" if self.source_version else self.source

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**value)
