"""Making a user's row what the provider says now."""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access import groups
from slipway.access.identity import Identity
from slipway.access.oidc.config import OidcConfig
from slipway.access.oidc.people import Person, roles_of
from slipway.base.clock import now
from slipway.errors import Conflict, Denied
from slipway.state import Database
from slipway.state.tables import User

log = logging.getLogger(__name__)


async def sign_in(database: Database, config: OidcConfig, person: Person) -> Identity:
    """The user whom issuer and subject name, made at the first login; groups, and being an administrator, as now.

    Whoever was given another name at the provider keeps the first one here. Raises ``Conflict`` when the name belongs
    to somebody else, ``Denied`` for a user who was disabled.
    """
    try:
        async with database.session() as session:
            row = await _row_of(session, config, person)
            if row.disabled:
                raise Denied(f"the user {row.name!r} is disabled", hint="an administrator did this")
            row.is_admin = bool(config.admin_group) and config.admin_group in person.groups
            row.external_until = now() + config.token_lifetime
            missing = await groups.replace(session, row.id, roles_of(person.groups, config.group_roles))
    except IntegrityError as error:
        raise Conflict(f"{person.name!r} logged in twice at the same moment", hint="try again") from error
    if missing:
        log.warning("oidc.group_roles names projects that do not exist: %s", ", ".join(missing))
    return Identity(row.name, "user", row.id, row.is_admin)


async def _row_of(session: AsyncSession, config: OidcConfig, person: Person) -> User:
    found = await session.scalar(
        select(User).where(User.external_issuer == config.issuer, User.external_subject == person.subject)
    )
    if found is not None:
        return found
    if await session.scalar(select(User.id).where(User.name == person.name)) is not None:
        raise Conflict(
            f"the name {person.name!r} belongs to somebody else here",
            hint="an administrator can remove that user, or give the person another name at the provider",
        )
    row = User(
        name=person.name,
        password_hash="",
        created=now(),
        external_issuer=config.issuer,
        external_subject=person.subject,
        disabled=False,
    )
    session.add(row)
    await session.flush()
    return row
