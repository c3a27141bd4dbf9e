"""What claims say about a person: a name that fits here, groups, and the roles that come with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.access.oidc.config import GroupRole, OidcConfig
from slipway.access.roles import Role
from slipway.errors import Denied

MAX_GROUPS = 5000
_STRENGTH = (Role.GUEST, Role.DEVELOPER, Role.ADMIN)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_BETWEEN = re.compile(r"[ ._@+-]+", re.ASCII)
_OURS = frozenset({"root", "anonymous"})


@dataclass(frozen=True, slots=True)
class Person:
    subject: str
    name: str
    groups: frozenset[str]


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """``path`` as it is, else step by step where it has dots (``realm_access.roles``)."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def lacks(claims: Mapping[str, Any], config: OidcConfig) -> bool:
    """Whether the provider may have more to tell at its userinfo endpoint."""
    return any(claim(claims, path) is None for path in (config.username_claim, config.groups_claim))


def person_of(claims: Mapping[str, Any], config: OidcConfig) -> Person:
    """Raises ``Denied`` when there is no usable name, or groups are not what they should be."""
    given = claim(claims, config.username_claim)
    if not isinstance(given, str) or not given:
        raise Denied(
            f"the provider does not tell the claim {config.username_claim!r}",
            hint="an administrator can name another with oidc.username_claim, or ask for more with oidc.scopes",
        )
    # Two that come to the same name do not become one: the second is refused.
    name = _BETWEEN.sub("-", given.lower()).strip("-")
    if not _NAME.fullmatch(name) or name in _OURS:
        raise Denied(f"{given[:100]!r} cannot be a name here", hint="letters, digits and inner '-', up to 40")
    return Person(str(claims["sub"]), name, _groups(claim(claims, config.groups_claim)))


def _groups(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise Denied("the provider's groups are not a list of names", hint="see oidc.groups_claim")
    if len(found) > MAX_GROUPS:
        raise Denied(f"the provider names {len(found)} groups; the limit is {MAX_GROUPS}")
    return frozenset(found)


def roles_of(groups: Iterable[str], group_roles: Iterable[GroupRole]) -> dict[str, Role]:
    """The role in each project; of several the one that may do most."""
    mine = frozenset(groups)
    found: dict[str, Role] = {}
    for group, project, role in group_roles:
        if group in mine:
            found[project] = max(found.get(project, role), role, key=_STRENGTH.index)
    return found
