"""A project that stands for another registry: what is asked for is fetched once and kept.

Manifests are fetched when they are asked for, a tag again once it is no longer *fresh*; blobs when they are asked for,
if a manifest of the repository names them. Many who want the same share one fetch; of a blob, they read what has come
(``slipway.registry.arriving``). When the other registry does not answer, what is here is served, however old. Nothing
can be pushed into such a project.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import select

from slipway.access import Vault
from slipway.content import holding
from slipway.distribution import Login, RemoteRegistry
from slipway.errors import Denied, NotFound, SlipwayError, Unavailable
from slipway.oci import Descriptor, Digest, parse_manifest
from slipway.registry import manifests, repositories, tagging
from slipway.registry.arriving import Arriving
from slipway.registry.manifests import StoredManifest
from slipway.registry.registry import Registry
from slipway.registry.repositories import project_of
from slipway.registry.upstream import Upstream
from slipway.state import Database
from slipway.state.tables import Manifest as Row
from slipway.state.tables import ManifestReference, Repository

log = logging.getLogger(__name__)
T = TypeVar("T")
_BY = "upstream"
_LEASE = timedelta(hours=6)
_MOST_CHECKED = 50_000


@dataclass(frozen=True, slots=True)
class BlobFound:
    """A blob's size; ``arriving`` while it is being fetched, else it is in the store."""

    size: int
    arriving: Arriving | None = None


class PullThrough:
    """The registry, with what other registries have behind it."""

    def __init__(self, database: Database, registry: Registry, vault: Vault) -> None:
        self._database = database
        self._registry = registry
        self._vault = vault
        self._checked: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._fetching: dict[object, asyncio.Task[Any]] = {}
        self._arriving: dict[tuple[str, Digest], Arriving] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    async def upstream(self, repository: str) -> Upstream | None:
        """The registry that the repository's project stands for."""
        return (await self._registry.rules.of(repository.partition("/")[0])).upstream

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
            await asyncio.to_thread(manifests.keep_bytes, store, data, digest)
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                row = await manifests.record(session, owner, manifest, digest, len(data), _BY)
                if ":" not in reference:
                    await tagging.put(session, owner, reference, row, _BY)
        return StoredManifest(data, manifest.media_type, digest)

    async def blob(self, repository: str, digest: Digest, *, keep: bool, fetch: bool) -> BlobFound:
        """A blob of the repository; if it is at the other registry only, its first bytes have come (``fetch``).

        ``keep``: see ``LinkedBlobs.size``. Raises ``NotFound``, ``Unavailable``.
        """
        upstream = await self.upstream(repository)
        try:
            return BlobFound(await self._registry.linked.size(repository, digest, keep=keep))
        except NotFound:
            if upstream is None:
                raise
        arriving = self._arriving.get((repository, digest))
        if arriving is None:
            size = await self._named(repository, digest)
            if not fetch or await self._has_bytes(upstream, repository, digest, size):
                return BlobFound(size)
            arriving = self._arriving.get((repository, digest)) or self._begin(
                upstream, repository, digest, size
            )
        if fetch:
            await arriving.begun()
        return BlobFound(arriving.size, arriving)

    async def _has_bytes(self, upstream: Upstream, repository: str, digest: Digest, size: int) -> bool:
        """Whether they came by another way, and are a blob of this repository from now on.

        Only if the other registry has the blob there: its manifests are anybody's, and one may name what is a private
        project's here.
        """
        store = self._registry.blobs
        async with holding(store, "upstream", digest):
            if await asyncio.to_thread(store.size, digest) != size:
                return False
            async with self._remote(upstream) as remote:
                if not await remote.has_blob(upstream.reference(repository, str(digest)), digest):
                    return False
            await self._link(repository, digest, size)
        return True

    async def _link(self, repository: str, digest: Digest, size: int) -> None:
        async with self._database.session() as session:
            owner = await repositories.ensure(session, repository)
            await repositories.link(session, owner, (digest, size))

    def _begin(self, upstream: Upstream, repository: str, digest: Digest, size: int) -> Arriving:
        """It goes on when those who wait for it leave."""
        arriving = self._arriving[repository, digest] = Arriving(digest, size)
        task = asyncio.create_task(self._fetch_blob(upstream, repository, arriving))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)
        return arriving

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

    async def _fetch_blob(self, upstream: Upstream, repository: str, arriving: Arriving) -> None:
        digest, size = arriving.digest, arriving.size
        there = upstream.reference(repository, str(digest))
        blob = Descriptor("application/octet-stream", digest, size)
        store = self._registry.blobs
        try:
            async with holding(store, "upstream", digest, ttl=_LEASE):
                async with self._remote(upstream) as remote:
                    await arriving.fill(remote.blob(there, blob), store)
                await self._link(repository, digest, size)
        except SlipwayError as error:
            log.warning("%s of %s was not fetched: %s", digest, repository, error.message)
            arriving.fail(error)
        except BaseException as error:
            arriving.fail(Unavailable(f"the blob {digest} could not be fetched"))
            if not isinstance(error, asyncio.CancelledError):
                log.exception("%s of %s was not fetched", digest, repository)
            raise
        finally:
            del self._arriving[repository, digest]

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
