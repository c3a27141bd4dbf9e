"""The three roles of a project and what each may do."""

from __future__ import annotations

from enum import StrEnum

from slipway.errors import Invalid


class Permission(StrEnum):
    """One thing that can be allowed inside a project."""

    VIEW = "view"
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    BUILD = "build"
    DELIVER = "deliver"
    MANAGE = "manage"


class Role(StrEnum):
    ADMIN = "admin"
    DEVELOPER = "developer"
    GUEST = "guest"

    @classmethod
    def parse(cls, text: str) -> Role:
        try:
            return cls(text)
        except ValueError as error:
            raise Invalid(f"not a role: {text!r}", hint="roles are admin, developer and guest") from error


_GUEST = frozenset({Permission.VIEW, Permission.PULL})
_DEVELOPER = _GUEST | {Permission.PUSH, Permission.BUILD, Permission.DELIVER}
_BY_ROLE = {Role.GUEST: _GUEST, Role.DEVELOPER: _DEVELOPER, Role.ADMIN: frozenset(Permission)}


def permissions_of(role: Role | None) -> frozenset[Permission]:
    """Everything ``role`` may do; nothing for no role."""
    return frozenset() if role is None else _BY_ROLE[role]
