"""The sites that are known here, and how far replication with each has come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from sqlalchemy import select, update

from slipway.access import Vault
from slipway.base.clock import now
from slipway.distribution import Login, RemoteRegistry
from slipway.distribution.remote import trusting
from slipway.errors import Conflict, Invalid, NotFound
from slipway.registry.replication.filters import SiteFilter
from slipway.state import Database
from slipway.state.tables import ReplicationConflict, Site

Direction = Literal["push", "pull"]
_AT_ONCE = 4
SLIPWAY, OTHER = "slipway", "registry"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """``kind`` is ``slipway`` or ``registry`` (any other), empty before it was asked. ``cursor``: see the table."""

    name: str
    url: str
    kind: str
    direction: Direction
    username: str
    options: Mapping[str, Any]
    cursor: int
    state: Mapping[str, Any]
    created: datetime
    secret: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def secure(self) -> bool:
        return self.url.startswith("https://")

    @property
    def login(self) -> Login | None:
        return Login(self.username, self.secret) if self.username else None

    @property
    def at_once(self) -> int:
        """How many images may be under way."""
        return max(1, int(self.options.get("at_once") or _AT_ONCE))

    def connect(self) -> RemoteRegistry:
        return RemoteRegistry(self.host, self.login, self.secure, str(self.options.get("authority") or ""))

    @property
    def filter(self) -> SiteFilter:
        return SiteFilter.parse(self.options)

    def there(self, repository: str) -> str:
        """What a repository of ours is called at the other site."""
        prefix = self.options.get("prefix") or ""
        return f"{prefix}/{repository}" if prefix else repository

    def here(self, repository: str) -> str:
        """What a repository of the other site is called here."""
        into = self.options.get("into") or ""
        return f"{into}/{repository}" if into else repository


@dataclass(frozen=True, slots=True)
class ConflictRecord:
    moment: datetime
    repository: str
    tag: str
    kept: str
    kept_origin: str
    lost: str
    lost_origin: str


class Sites:
    """Secrets are sealed in the database."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def add(
        self,
        name: str,
        url: str,
        direction: Direction,
        username: str,
        password: str,
        options: Mapping[str, Any],
    ) -> SiteRecord:
        """Raises ``Invalid`` and ``Conflict``."""
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"not a site's name: {name[:100]!r}", hint="lower-case letters, digits, '-' and '.'"
            )
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or parts.path.strip("/")
            or parts.username
        ):
            raise Invalid(f"not a site's address: {url[:200]!r}", hint="e.g. https://registry.example.org")
        if authority := options.get("authority"):
            if parts.scheme != "https":
                raise Invalid("certificates are of use with https only", hint=f"https://{parts.netloc}")
            trusting(authority)
        async with self._database.session() as session:
            if await session.get(Site, name) is not None:
                raise Conflict(f"the site {name!r} exists already", hint=f"slipway site rm {name}")
            session.add(
                Site(
                    name=name, url=f"{parts.scheme}://{parts.netloc}", kind="", direction=direction,
                    username=username, secret=self._vault.seal(password), options=dict(options), cursor=0,
                    state={}, created=now(),
                )
            )  # fmt: skip
        return await self.get(name)

    async def all(self) -> list[SiteRecord]:
        async with self._database.read() as session:
            return [self._record(row) for row in await session.scalars(select(Site).order_by(Site.name))]

    async def get(self, name: str) -> SiteRecord:
        async with self._database.read() as session:
            row = await session.get(Site, name)
        if row is None:
            raise NotFound(f"there is no site {name!r}", hint="slipway site ls")
        return self._record(row)

    async def remove(self, name: str) -> None:
        async with self._database.session() as session:
            row = await session.get(Site, name)
            if row is None:
                raise NotFound(f"there is no site {name!r}", hint="slipway site ls")
            await session.delete(row)

    async def save(self, name: str, **values: Any) -> None:
        """``kind``, ``cursor`` or ``state``. A site that was removed meanwhile stays removed."""
        async with self._database.session() as session:
            await session.execute(update(Site).where(Site.name == name).values(**values))

    async def conflicts(self, count: int = 200) -> list[ConflictRecord]:
        """Newest first."""
        query = select(ReplicationConflict).order_by(ReplicationConflict.id.desc()).limit(count)
        async with self._database.read() as session:
            return [
                ConflictRecord(
                    row.moment, row.repository, row.tag, row.kept, row.kept_origin, row.lost, row.lost_origin
                )
                for row in await session.scalars(query)
            ]

    def _record(self, row: Site) -> SiteRecord:
        direction: Direction = "pull" if row.direction == "pull" else "push"
        return SiteRecord(
            row.name, row.url, row.kind, direction, row.username, row.options, row.cursor, row.state, row.created,
            self._vault.open(row.secret),
        )  # fmt: skip


def count(state: dict[str, Any], size: int) -> None:
    """Bytes that went over the line."""
    state["bytes"] = state.get("bytes", 0) + size
