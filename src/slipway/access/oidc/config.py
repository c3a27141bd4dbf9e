"""How the provider is reached, and what its claims mean here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from slipway.access.roles import Role
from slipway.errors import Invalid

GroupRole = tuple[str, str, Role]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class OidcConfig:
    """``scopes`` empty: ``openid profile email``, and ``groups`` where the provider has it.

    ``ca`` is a PEM file to trust for the provider. A login lasts for ``login_lifetime``; personal tokens of a user
    work for ``token_lifetime`` after the last one, so that who is gone at the provider is gone here some time later.
    """

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    username_claim: str = "preferred_username"
    groups_claim: str = "groups"
    admin_group: str = ""
    group_roles: tuple[GroupRole, ...] = ()
    scopes: str = ""
    ca: str = ""
    login_lifetime: timedelta = timedelta(hours=12)
    token_lifetime: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        if not self.client_id:
            raise Invalid(
                "oidc.issuer is set but oidc.client_id is not", hint="the provider gives a client id"
            )
        require_secure(self.issuer, "oidc.issuer")


def require_secure(url: str, what: str) -> str:
    """``url`` if it is HTTPS, or HTTP on this very machine. Raises ``Invalid``."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise Invalid(f"{what} is not an address: {url[:200]!r}") from error
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)):
        raise Invalid(f"{what} must be an https address, not {url[:200]!r}")
    return url


def parse_group_roles(words: Sequence[str]) -> tuple[GroupRole, ...]:
    """``team-a=demo:developer`` each. Raises ``ValueError``."""
    found = []
    for word in words:
        group, sign, target = word.rpartition("=")
        project, colon, role = target.partition(":")
        if not (sign and group and colon and project):
            raise ValueError(f"{word!r} is not GROUP=PROJECT:ROLE, e.g. team-a=demo:developer")
        try:
            found.append((group, project, Role.parse(role)))
        except Invalid as error:
            raise ValueError(str(error)) from error
    return tuple(found)
