"""The registry that a project stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from slipway.errors import Invalid
from slipway.oci import Digest, Reference

SECTION = "upstream"


@dataclass(frozen=True, slots=True)
class Upstream:
    """``prefix`` goes in front of names over there; a tag is asked for again after ``fresh`` seconds."""

    url: str
    username: str = ""
    secret: str = field(default="", repr=False)
    prefix: str = ""
    fresh: float = 300.0

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """Raises ``Invalid``."""
        found = cls(
            str(value.get("url", "")).rstrip("/"), str(value.get("username", "")), str(value.get("secret", "")),
            str(value.get("prefix", "")).strip("/"), float(value.get("fresh", 300.0)),
        )  # fmt: skip
        parts = urlsplit(found.url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.username:
            raise Invalid(
                f"not a registry's address: {found.url[:200]!r}", hint="e.g. https://registry.example.org"
            )
        if found.fresh < 0:
            raise Invalid("a time must be 0 or more")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url, "username": self.username, "secret": self.secret, "prefix": self.prefix,
            "fresh": self.fresh,
        }  # fmt: skip

    def reference(self, repository: str, target: str) -> Reference:
        """What an image of this project is called at the other registry."""
        name = repository.partition("/")[2]
        whole = f"{self.prefix}/{name}" if self.prefix else name
        host = urlsplit(self.url).netloc
        if ":" in target:
            return Reference(whole, host, digest=Digest.parse(target))
        return Reference(whole, host, target)
