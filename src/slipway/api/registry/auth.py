"""Who calls, and what they may do: Docker's token protocol, with Basic accepted as well."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from starlette.requests import Request

from slipway.access import ANONYMOUS, Access, Grant, Identity, Permission
from slipway.access.tokens import LIFETIME
from slipway.base.clock import iso, now
from slipway.errors import Denied, Invalid, Unauthenticated

_PERMISSIONS = {"pull": Permission.PULL, "push": Permission.PUSH, "delete": Permission.DELETE}
MAX_SCOPES = 20


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified request: a name for the audit, and what the token or the login grants."""

    name: str
    grants: tuple[Grant, ...]
    identity: Identity | None = None


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


class Authentication:
    """Checks requests and issues tokens."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def caller(self, request: Request) -> Caller:
        """Raises ``Unauthenticated`` for wrong credentials; none at all are anonymous."""
        header = request.headers.get("authorization", "")
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            subject, grants = self._access.tokens.check(value.strip())
            return Caller(subject, grants)
        identity = await self.basic(header, address_of(request)) if header else ANONYMOUS
        return Caller(identity.name, (), identity)

    async def basic(self, header: str, address: str) -> Identity:
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthenticated("the authorization is neither Basic nor Bearer")
        try:
            name, sign, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthenticated("the authorization header is malformed") from error
        if not sign:
            raise Unauthenticated("the authorization header has no password")
        return await self._access.authenticate(name, secret, address)

    async def may(self, caller: Caller, repository: str, action: str) -> bool:
        if caller.identity is not None:
            granted = await self._access.permissions(caller.identity, repository.partition("/")[0])
            if not caller.identity.reaches(repository):
                return False
            return _PERMISSIONS[action] in granted
        return any(
            grant.type == "repository" and grant.name == repository and action in grant.actions
            for grant in caller.grants
        )

    async def require(self, caller: Caller, repository: str, action: str) -> None:
        """Raises ``Unauthenticated`` (a token with the scope may help) or ``Denied`` (nothing will)."""
        if await self.may(caller, repository, action):
            return
        if caller.identity is not None and caller.identity.kind != "anonymous":
            await self._access.audit(
                caller.identity, action, repository, project=repository.partition("/")[0], allowed=False
            )
            raise Denied(f"{caller.name} may not {action} {repository!r}")
        if caller.identity is None and caller.name != ANONYMOUS.name:
            raise Unauthenticated(
                f"{caller.name} may not {action} {repository!r}, or the token was not asked for that",
                hint="a project's admin can change that: slipway project add PROJECT NAME --role guest",
            )
        raise Unauthenticated(
            f"{action} of {repository!r} needs a login", hint="docker login, then try again"
        )

    def challenge(self, request: Request, repository: str = "", action: str = "") -> dict[str, str]:
        """The header that tells a client where to get a token for this."""
        realm = str(request.url.replace(path="/token", query=""))
        text = f'Bearer realm="{realm}",service="{self._access.tokens.service}"'
        if repository:
            actions = {"push": "pull,push", "delete": "pull,push,delete"}.get(action, action)
            text += f',scope="repository:{repository}:{actions}"'
        return {"WWW-Authenticate": text}

    async def token(self, identity: Identity, scopes: list[str], *, offline: bool) -> dict[str, object]:
        """A token for what was asked and is allowed; asking for more is no error.

        ``offline``: with one that gets further tokens without a password. It ends with the password.
        """
        grants = [await self._grant(identity, scope) for scope in scopes[:MAX_SCOPES]]
        token = self._access.tokens.issue(identity.name, [grant for grant in grants if grant.actions])
        found = {"token": token, "access_token": token, "expires_in": LIFETIME, "issued_at": iso(now())}
        if offline and identity.kind == "user" and not identity.by_token:
            found["refresh_token"] = (await self._access.open_session(identity, "refresh"))[0]
        return found

    async def _grant(self, identity: Identity, scope: str) -> Grant:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        wanted = {action for action in actions.split(",") if action}
        if "*" in wanted:
            wanted |= set(_PERMISSIONS)
        if not name:
            raise Invalid(f"not a scope: {scope[:200]!r}", hint="repository:NAME:pull,push")
        if kind == "registry" and name == "catalog":
            return Grant(
                kind,
                name,
                frozenset({"*", "search"} & wanted) if identity.kind != "anonymous" else frozenset(),
            )
        if kind != "repository":
            return Grant(kind, name, frozenset())
        granted = await self._access.permissions(identity, name.partition("/")[0])
        if not identity.reaches(name):
            granted = frozenset()
        return Grant(kind, name, frozenset(item for item in wanted if _PERMISSIONS.get(item) in granted))
