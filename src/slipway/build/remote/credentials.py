"""A build's secrets that open addresses: for ADD of URLs and repositories, and for git contexts.

As BuildKit has them: ``HTTP_AUTH_TOKEN_host`` and ``HTTP_AUTH_HEADER_host`` for files, ``GIT_AUTH_TOKEN``,
``GIT_AUTH_HEADER`` and the same with ``.host`` for repositories. A host may carry its port.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from slipway.errors import Invalid

_VALUE = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a build may say to other servers. The values are in no record, key, log or command line."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def for_file(self, url: str) -> str:
        """The value of ``Authorization`` for a URL; empty for none."""
        for host in _hosts(url):
            if value := self._text(f"HTTP_AUTH_HEADER_{host}"):
                return value
            if value := self._text(f"HTTP_AUTH_TOKEN_{host}"):
                return f"Bearer {value}"
        return ""

    def for_repository(self, url: str) -> str:
        """The value of ``Authorization`` for a repository over HTTP; empty for none, and for any other protocol."""
        if urlsplit(url).scheme not in ("http", "https"):
            return ""
        for suffix in (*(f".{host}" for host in _hosts(url)), ""):
            if value := self._text(f"GIT_AUTH_HEADER{suffix}"):
                return value
            if value := self._text(f"GIT_AUTH_TOKEN{suffix}"):
                return f"Basic {base64.b64encode(f'x-access-token:{value}'.encode()).decode()}"
        return ""

    def _text(self, name: str) -> str:
        """Raises ``Invalid`` for what would be more than one line of a request."""
        value = self.secrets.get(name, b"").decode("latin-1").strip()
        if value and not _VALUE.fullmatch(value):
            raise Invalid(f"the secret {name} is no single line of printable characters")
        return value


NOBODY = Credentials()


def place_of(url: str, authorization: str) -> str:
    """What is kept of an address is kept for those who can open it in the same way."""
    name = url if not authorization else f"{url}\0{authorization}"
    return hashlib.sha256(name.encode()).hexdigest()


def _hosts(url: str) -> list[str]:
    """The names that a secret may have the host under, the most exact first."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return [f"{host}:{parts.port}", host] if parts.port else [host]
