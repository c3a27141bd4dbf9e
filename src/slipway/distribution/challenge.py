"""``WWW-Authenticate: Bearer …``, parsed. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

_PARAMETER = re.compile(r'([A-Za-z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Challenge:
    """Where to ask for a token, and for what."""

    realm: str
    service: str
    scope: str

    @property
    def url(self) -> str:
        query = urlencode(
            {key: text for key, text in (("service", self.service), ("scope", self.scope)) if text}
        )
        return f"{self.realm}{'&' if '?' in self.realm else '?'}{query}"


def parse_challenge(header: str, secure: bool) -> Challenge | None:
    """The challenge, or ``None`` when it is no Bearer one or leads from HTTPS to something else."""
    scheme, _, rest = header.partition(" ")
    found = dict(_PARAMETER.findall(rest))
    realm = found.get("realm", "")
    allowed = ("https",) if secure else ("http", "https")
    if scheme.lower() != "bearer" or urlsplit(realm).scheme not in allowed:
        return None
    return Challenge(realm, found.get("service", ""), found.get("scope", ""))
