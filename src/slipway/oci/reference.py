"""Image references ``[registry/]repository[:tag][@digest]``, by the rules of Docker and OCI."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

from slipway.errors import Invalid
from slipway.oci.digest import Digest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]{1,5})?",
    re.ASCII,
)
MAX_NAME = 255


def is_repository(name: str) -> bool:
    """Whether ``name`` is a valid repository name, without registry, tag or digest."""
    return len(name) <= MAX_NAME and _REPOSITORY.fullmatch(name) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. ``registry`` is empty when the text named none."""

    repository: str
    registry: str = ""
    tag: str = ""
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if not is_repository(self.repository):
            raise Invalid(
                f"not an image name: {self.repository[:300]!r}",
                hint="names are lower-case letters, digits, '.', '_', '-' and '/'",
            )
        if self.tag and not is_tag(self.tag):
            raise Invalid(f"not a tag: {self.tag[:200]!r}")
        if self.registry and not _HOST.fullmatch(self.registry):
            raise Invalid(f"not a registry host: {self.registry[:200]!r}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The first component is a registry when it has a dot or a port, or is ``localhost``."""
        rest, at, digest = text.partition("@")
        head, slash, tail = rest.partition("/")
        registry = ""
        if slash and (any(char in head for char in ".:") or head == "localhost"):
            registry, rest = head, tail
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            name, tag, colon = rest, "", ""
        if (colon and not tag) or (at and not digest) or not name:
            raise Invalid(f"not an image reference: {text[:300]!r}", hint="e.g. demo/web:1 or web@sha256:…")
        return cls(name, registry, tag, Digest.parse(digest) if digest else None)

    def with_tag(self, tag: str) -> Self:
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest) -> Self:
        return replace(self, tag="", digest=digest)

    @property
    def target(self) -> str:
        """What a manifest is asked by: the digest if there is one, else the tag, else ``latest``."""
        return str(self.digest) if self.digest else self.tag or "latest"

    def __str__(self) -> str:
        text = f"{self.registry}/{self.repository}" if self.registry else self.repository
        text += f":{self.tag}" if self.tag else ""
        return text + (f"@{self.digest}" if self.digest else "")
