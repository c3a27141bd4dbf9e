"""Tokens that stand for a user's password, for programs that know names and passwords only (`docker login`)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from slipway.access import passwords
from slipway.access.identity import Identity
from slipway.access.records import PersonalTokenRecord
from slipway.base.clock import now
from slipway.errors import Conflict, Denied, Exhausted, Invalid, NotFound, Unauthenticated
from slipway.state import Database
from slipway.state.tables import PersonalToken, User

LIFETIME = timedelta(days=90)
MAX_TOKENS = 100
_NAME = re.compile(r"[a-z0-9][a-z0-9._@ -]{0,79}", re.ASCII | re.IGNORECASE)
_PREFIX = "swp"


class PersonalTokens:
    """A token opens what its user may do at that moment, and neither more tokens nor logins that outlive it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, owner: Identity, name: str, lifetime: timedelta | None = LIFETIME
    ) -> tuple[str, datetime | None]:
        """The secret, shown this once, and the expiry. Raises ``Conflict`` for a name that the user has in use."""
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"not a token's name: {name[:100]!r}", hint="up to 80 letters, digits and . _ @ - or space"
            )
        if owner.kind != "user" or owner.by_token:
            raise Denied(
                "personal tokens belong to users who logged in themselves",
                hint="`slipway login` first; programs of a project use robots",
            )
        secret, expires = passwords.new_secret(_PREFIX), now() + lifetime if lifetime else None
        row = PersonalToken(
            user_id=owner.id,
            name=name,
            secret_hash=passwords.hash_secret(secret),
            expires=expires,
            created=now(),
        )
        try:
            async with self._database.session() as session:
                mine = await session.scalars(
                    select(PersonalToken.id).where(PersonalToken.user_id == owner.id)
                )
                if len(list(mine)) >= MAX_TOKENS:
                    raise Exhausted(
                        f"{owner.name} has {MAX_TOKENS} tokens", hint="`slipway token rm` removes old ones"
                    )
                session.add(row)
        except IntegrityError as error:
            raise Conflict(f"{owner.name} has a token {name!r} already") from error
        return secret, expires

    async def list(self, user: str) -> list[PersonalTokenRecord]:
        async with self._database.read() as session:
            rows = await session.scalars(
                select(PersonalToken).join(User).where(User.name == user).order_by(PersonalToken.name)
            )
            return [PersonalTokenRecord(row.name, row.expires, row.created) for row in rows]

    async def delete(self, user: str, name: str) -> None:
        async with self._database.session() as session:
            owner = select(User.id).where(User.name == user).scalar_subquery()
            done = await session.scalars(
                delete(PersonalToken)
                .where(PersonalToken.user_id == owner, PersonalToken.name == name)
                .returning(PersonalToken.id)
            )
            if done.first() is None:
                raise NotFound(f"{user} has no token {name!r}")

    @staticmethod
    def looks_like(secret: str) -> bool:
        return secret.startswith(f"{_PREFIX}_")

    async def check(self, secret: str, name: str | None = None) -> Identity:
        """Whom ``secret`` stands for, who must be ``name`` where one was given. Raises ``Unauthenticated``."""
        async with self._database.read() as session:
            found = (
                await session.execute(
                    select(PersonalToken, User)
                    .join(User, User.id == PersonalToken.user_id)
                    .where(PersonalToken.secret_hash == passwords.hash_secret(secret))
                )
            ).first()
        if found is None or found[1].disabled or (name is not None and found[1].name != name):
            raise Unauthenticated("the name or the password is wrong")
        token, user = found
        if token.expires is not None and token.expires < now():
            raise Unauthenticated(
                f"the token {token.name!r} expired", hint="`slipway token create` makes one"
            )
        if user.external_subject and (user.external_until is None or user.external_until < now()):
            raise Unauthenticated(
                f"{user.name} has not logged in for a long time, so the token is not believed any more",
                hint="`slipway login SERVER --oidc`, and it is again",
            )
        return Identity(user.name, "user", user.id, user.is_admin, by_token=True)
