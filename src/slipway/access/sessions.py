"""Logins of the command line, the console and registry clients: tokens that stand for a user for a while."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete, select

from slipway.access import passwords
from slipway.access.identity import Identity
from slipway.access.personal_tokens import PersonalTokens
from slipway.access.rows import insert
from slipway.base.clock import now
from slipway.errors import Denied, Unauthenticated
from slipway.state import Database
from slipway.state.tables import LoginSession, User

SESSION_LIFETIME = timedelta(days=30)
SessionUse = Literal["login", "refresh"]
_PREFIXES: dict[SessionUse, str] = {"login": "sws", "refresh": "swt"}


class Sessions:
    """Opened for who has authenticated, asked for with each request, closed."""

    def __init__(self, database: Database, personal_tokens: PersonalTokens) -> None:
        self._database = database
        self._personal_tokens = personal_tokens

    async def open_session(
        self, identity: Identity, use: SessionUse = "login", lifetime: timedelta = SESSION_LIFETIME
    ) -> tuple[str, datetime]:
        """A new token for a user who has just authenticated; only its hash is kept.

        One for ``refresh`` opens nothing by itself: registry clients get short-lived tokens for it.
        """
        if identity.kind != "user":
            raise Denied("only users can log in", hint="robots use their secret with docker login")
        if identity.by_token:
            raise Denied("a token is no login", hint="SLIPWAY_TOKEN=… is for it, and docker login")
        async with self._database.session() as session:
            old = delete(LoginSession).where(
                LoginSession.user_id == identity.id, LoginSession.expires < now()
            )
            await session.execute(old)
        token, expires = passwords.new_secret(_PREFIXES[use]), now() + lifetime
        row = LoginSession(
            token_hash=passwords.hash_secret(token), user_id=identity.id, created=now(), expires=expires
        )
        await insert(self._database, row, "the login exists already")
        return token, expires

    async def check_session(self, token: str, use: SessionUse = "login") -> Identity:
        """Whose login this is, or personal token in its place.

        Raises ``Unauthenticated``, also for a token that was made for another use.
        """
        if use == "login" and self._personal_tokens.looks_like(token):
            return await self._personal_tokens.check(token)
        if not token.startswith(f"{_PREFIXES[use]}_"):
            raise Unauthenticated("the login is not valid", hint="run `slipway login` again")
        async with self._database.read() as session:
            row = (
                await session.execute(
                    select(LoginSession, User)
                    .join(User, User.id == LoginSession.user_id)
                    .where(LoginSession.token_hash == passwords.hash_secret(token))
                )
            ).first()
        if row is None or row[0].expires < now() or row[1].disabled:
            raise Unauthenticated("the login is not valid any more", hint="run `slipway login` again")
        return Identity(row[1].name, "user", row[1].id, row[1].is_admin)

    async def close_session(self, token: str) -> None:
        async with self._database.session() as session:
            await session.execute(
                delete(LoginSession).where(LoginSession.token_hash == passwords.hash_secret(token))
            )
