"""A project that stands for another registry: what is asked for is fetched once and kept.

Manifests are fetched when they are asked for, a tag again once it is no longer *fresh*; blobs when they are asked for,
if a manifest of the repository names them. Many who want the same wait for one fetch. When the other registry does
not answer, what is here is served, however old. Nothing can be pushed into such a project.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import select

from slipway.access import Vault
from slipway.content import ContentStore, holding
from slipway.distribution import Login, RemoteRegistry, fetch_blob
from slipway.errors import Denied, Invalid, NotFound, SlipwayError
from slipway.oci import Descriptor, Digest, Reference, parse_manifest
from slipway.registry import manifests, repositories, tagging
from slipway.registry.manifests import StoredManifest
from slipway.registry.projects import ProjectSettings
from slipway.registry.registry import Registry
from slipway.registry.repositories import project_of
from slipway.state import Database
from slipway.state.tables import Manifest as Row
from slipway.state.tables import ManifestReference, Repository

T = TypeVar("T")
SECTION = "upstream"
_BY = "upstream"
_LEASE = timedelta(hours=6)
_MOST_CHECKED = 50_000


@dataclass(frozen=True, slots=True)
class Upstream:
    """``prefix`` goes in front of names over there; a tag is asked for again after ``fresh`` seconds."""

    url: str
    username: str = ""
    secret: str = field(default="", repr=False)
    prefix: str = ""
    fresh: float = 300.0

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """Raises ``Invalid``."""
        found = cls(
            str(value.get("url", "")).rstrip("/"), str(value.get("username", "")), str(value.get("secret", "")),
            str(value.get("prefix", "")).strip("/"), float(value.get("fresh", 300.0)),
        )  # fmt: skip
        parts = urlsplit(found.url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.username:
            raise Invalid(
                f"not a registry's address: {found.url[:200]!r}", hint="e.g. https://registry.example.org"
            )
        if found.fresh < 0:
            raise Invalid("a time must be 0 or more")
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url, "username": self.username, "secret": self.secret, "prefix": self.prefix,
            "fresh": self.fresh,
        }  # fmt: skip

    def reference(self, repository: str, target: str) -> Reference:
        """What an image of this project is called at the other registry."""
        name = repository.partition("/")[2]
        whole = f"{self.prefix}/{name}" if self.prefix else name
        host = urlsplit(self.url).netloc
        if ":" in target:
            return Reference(whole, host, digest=Digest.parse(target))
        return Reference(whole, host, target)


class PullThrough:
    """The registry, with what other registries have behind it."""

    def __init__(self, database: Database, registry: Registry, vault: Vault) -> None:
        self._database = database
        self._registry = registry
        self._vault = vault
        self._settings = ProjectSettings(database)
        self._checked: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._fetching: dict[object, asyncio.Task[Any]] = {}

    async def upstream(self, repository: str) -> Upstream | None:
        """The registry that the repository's project stands for, as of at most two seconds ago."""
        value = await self._settings.section(repository.partition("/")[0], SECTION)
        return Upstream.parse(value) if value else None

    async def refuse_push(self, repository: str) -> None:
        """Raises ``Denied`` where everything comes from another registry."""
        if (upstream := await self.upstream(repository)) is not None:
            raise Denied(
                f"the project {project_of(repository)!r} stands for {upstream.url}: nothing can be pushed into it"
            )

    async def manifest(self, repository: str, reference: str) -> StoredManifest:
        """Raises ``NotFound``, and ``Unavailable`` when neither we nor the other registry can tell."""
        upstream = await self.upstream(repository)
        if upstream is None:
            return await self._registry.get_manifest(repository, reference)
        here = await self._here(repository, reference)
        if here is not None and (":" in reference or self._is_fresh(repository, reference, upstream)):
            return here
        try:
            return await self._once(
                (repository, reference), lambda: self._fetch(upstream, repository, reference, here)
            )
        except SlipwayError as error:
            if here is not None and not isinstance(error, NotFound):
                return here
            raise

    async def _here(self, repository: str, reference: str) -> StoredManifest | None:
        try:
            return await self._registry.get_manifest(repository, reference)
        except NotFound:
            return None

    def _is_fresh(self, repository: str, tag: str, upstream: Upstream) -> bool:
        checked = self._checked.get((repository, tag))
        return checked is not None and time.monotonic() - checked < upstream.fresh

    async def _fetch(
        self, upstream: Upstream, repository: str, reference: str, here: StoredManifest | None
    ) -> StoredManifest:
        there = upstream.reference(repository, reference)
        async with self._remote(upstream) as remote:
            if here is not None and await remote.digest_of(there) == here.digest:
                found = here
            else:
                data, kind = await remote.manifest(there)
                found = await self._keep(repository, reference, data, kind)
        self._checked[repository, reference] = time.monotonic()
        while len(self._checked) > _MOST_CHECKED:
            self._checked.popitem(last=False)
        return found

    async def _keep(self, repository: str, reference: str, data: bytes, kind: str) -> StoredManifest:
        manifest = parse_manifest(data, kind)
        digest = Digest.parse(reference) if ":" in reference else Digest.of(data)
        store = self._registry.blobs
        async with holding(store, "upstream", digest, ttl=_LEASE):
            await asyncio.to_thread(_put, store, data, digest)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                row = await manifests.record(session, owner, manifest, digest, len(data), _BY)
                if ":" not in reference:
                    await tagging.put(session, owner, reference, row, _BY)
        return StoredManifest(data, manifest.media_type, digest)

    async def blob(self, repository: str, digest: Digest, *, keep: bool, fetch: bool) -> int:
        """The size of a blob of the repository, which is here afterwards if it is to be fetched (``fetch``).

        ``keep``: see ``Registry.blob_size``. Raises ``NotFound``, ``Unavailable``.
        """
        upstream = await self.upstream(repository)
        try:
            return await self._registry.blob_size(repository, digest, keep=keep)
        except NotFound:
            if upstream is None:
                raise
            size = await self._named(repository, digest)
            if not fetch:
                return size
            return await self._once(
                (repository, str(digest)), lambda: self._fetch_blob(upstream, repository, digest, size)
            )

    async def _named(self, repository: str, digest: Digest) -> int:
        """The size that a manifest of the repository gives for a blob. Raises ``NotFound`` when none names it."""
        query = (
            select(ManifestReference.size)
            .join(Row, Row.id == ManifestReference.manifest_id)
            .join(Repository, Repository.id == Row.repository_id)
            .where(
                Repository.name == repository, ManifestReference.digest == str(digest), Row.deleted.is_(None)
            )
        )
        async with self._database.read() as session:
            size = await session.scalar(query.limit(1))
        if size is None:
            raise NotFound(f"there is no blob {digest} in {repository!r}")
        return size

    async def _fetch_blob(self, upstream: Upstream, repository: str, digest: Digest, size: int) -> int:
        there = upstream.reference(repository, str(digest))
        store = self._registry.blobs
        async with holding(store, "upstream", digest, ttl=_LEASE):
            async with self._remote(upstream) as remote:
                await fetch_blob(remote, there, Descriptor("application/octet-stream", digest, size), store)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(session, owner, (digest, size))
        return size

    def _remote(self, upstream: Upstream) -> RemoteRegistry:
        parts = urlsplit(upstream.url)
        login = Login(upstream.username, self._vault.open(upstream.secret)) if upstream.username else None
        return RemoteRegistry(parts.netloc, login, parts.scheme == "https")

    async def _once(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        """``work``, or what somebody who wants the same has begun. It goes on when one of those who wait leaves."""
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.create_task(self._working(key, work))
            self._fetching[key] = task
        return await asyncio.shield(task)

    async def _working(self, key: object, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            del self._fetching[key]


def _put(store: ContentStore, data: bytes, digest: Digest) -> None:
    with store.writer(digest.algorithm) as writer:
        writer.write(data)
        writer.commit(digest)
