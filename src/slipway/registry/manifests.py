"""Putting and getting manifests inside a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.content import BlobStore
from slipway.errors import Conflict, Invalid, NotFound
from slipway.oci import Digest, Index, Manifest
from slipway.registry import tagging, usage
from slipway.registry.repositories import project_of
from slipway.state import Database, add_once
from slipway.state.tables import Manifest as Row
from slipway.state.tables import ManifestReference, Repository, RepositoryBlob, Tag

_MANY = 500


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest's exact bytes, what it is called and what it is."""

    data: bytes
    media_type: str
    digest: Digest


class MissingReference(NotFound):
    """A manifest names a blob or manifest that is not in the repository."""


_BY_TAG = """
SELECT manifests.digest, manifests.media_type FROM repositories
JOIN tags ON tags.repository_id = repositories.id AND tags.name = :reference
JOIN manifests ON manifests.id = tags.manifest_id WHERE repositories.name = :repository
"""
_BY_DIGEST = """
SELECT manifests.digest, manifests.media_type FROM repositories
JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = :reference
WHERE repositories.name = :repository AND manifests.deleted IS NULL
"""


async def look_up(database: Database, repository: str, reference: str) -> tuple[str, str] | None:
    """Digest and media type of what a tag or digest means now."""
    query = _BY_DIGEST if ":" in reference else _BY_TAG
    found = await database.look_up(query, repository=repository, reference=reference)
    return (found[0][0], found[0][1]) if found else None


async def by_digest(
    session: AsyncSession, repository: Repository, digest: str, *, lock: bool = False
) -> Row | None:
    """What is in the trash is not found. ``lock``: nobody throws it away before this transaction ends.

    Whoever takes both locks a manifest first and the clock (``clock.tick``) second.
    """
    query = select(Row).where(Row.repository_id == repository.id, Row.digest == digest, Row.deleted.is_(None))
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    found: Row | None = await session.scalar(query)
    return found


async def by_tag(session: AsyncSession, repository: Repository, tag: str) -> Row | None:
    found: Row | None = await session.scalar(
        select(Row)
        .join(Tag, Tag.manifest_id == Row.id)
        .where(Tag.repository_id == repository.id, Tag.name == tag)
    )
    return found


async def check_references(
    session: AsyncSession,
    repository: Repository,
    manifest: Manifest | Index,
    blobs: Mapping[Digest, int | None],
) -> None:
    """Raises ``MissingReference`` unless everything the manifest needs is in this repository.

    ``blobs`` are those that it ``needs``, with their sizes, under a lease that ends after this transaction. The images
    that an index needs stay where they are until then. ``Invalid`` if something has another size than it says: clients
    plan, and limit what they read, by it.
    """
    if isinstance(manifest, Index):
        sizes: Mapping[Digest, int | None] = await _images(session, repository, manifest)
    else:
        linked = await _linked(session, repository, [str(digest) for digest in blobs])
        sizes = {digest: size for digest, size in blobs.items() if str(digest) in linked}
    for item in manifest.references:
        if item.urls:
            continue  # a foreign layer: never fetched, need not be here
        size = sizes.get(item.digest)
        if size is None:
            raise MissingReference(f"the manifest needs {item.digest}, which is not in {repository.name!r}")
        if size != item.size:
            raise Invalid(f"the manifest says {item.digest} has {item.size} bytes; it has {size}")


def keep_bytes(blobs: BlobStore, data: bytes, digest: Digest) -> None:
    """A manifest's own bytes, by the digest that it goes by. Blocks. Raises ``Invalid`` for another's."""
    with blobs.writer(digest.algorithm) as writer:
        writer.write(data)
        writer.commit(digest)


def needs(manifest: Manifest | Index) -> list[Digest]:
    """The blobs that have to be here for a manifest to be put; an index needs manifests."""
    if isinstance(manifest, Index):
        return []
    return [item.digest for item in manifest.references if not item.urls]


async def _images(session: AsyncSession, repository: Repository, index: Index) -> dict[Digest, int | None]:
    """Those that are here, with their sizes. Nobody throws one away before this transaction ends."""
    found: dict[Digest, int | None] = {}
    wanted = sorted({str(item.digest) for item in index.references})
    for first in range(0, len(wanted), _MANY):
        query = select(Row.digest, Row.size).where(
            Row.repository_id == repository.id,
            Row.digest.in_(wanted[first : first + _MANY]),
            Row.deleted.is_(None),
        )
        # In the order of ids, as everybody who locks several. Other indexes may take the same ones meanwhile.
        locked = query.order_by(Row.id).with_for_update(read=True)
        found |= {Digest.parse(digest): size for digest, size in await session.execute(locked)}
    return found


async def _linked(session: AsyncSession, repository: Repository, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for first in range(0, len(digests), _MANY):
        some = RepositoryBlob.digest.in_(digests[first : first + _MANY])
        query = select(RepositoryBlob.digest).where(RepositoryBlob.repository_id == repository.id, some)
        found.update(await session.scalars(query))
    return found


async def record(
    session: AsyncSession, repository: Repository, manifest: Manifest | Index, digest: Digest, size: int,
    by: str = "",
) -> Row:  # fmt: skip
    """The manifest's row and its references. Idempotent. Raises ``usage.QuotaExceeded``."""
    return (await record_all(session, repository, [(manifest, digest, size)], by))[0]


async def record_all(
    session: AsyncSession, repository: Repository, found: Sequence[tuple[Manifest | Index, Digest, int]],
    by: str = "",
) -> list[Row]:  # fmt: skip
    """The rows of manifests, each with its digest and size, in their order, with their references. Idempotent.

    Raises ``usage.QuotaExceeded``.
    """
    rows: list[Row] = []
    sizes: dict[str, int] = {}
    needed: Counter[str] = Counter()
    subjects: dict[str, None] = {}
    for manifest, digest, size in found:
        row, made = await _recorded(session, repository, manifest, digest, size, by)
        rows.append(row)
        if not made:
            continue
        references = {str(item.digest): item.size for item in manifest.references}
        session.add_all(
            ManifestReference(manifest_id=row.id, digest=name, size=count)
            for name, count in references.items()
        )
        sizes |= {**references, str(digest): size}
        needed.update({*references, str(digest)})
        if manifest.subject is not None:
            subjects[str(manifest.subject.digest)] = None
    if sizes:
        used = await usage.add(session, repository.project_id, sizes, needed)
        usage.check(project_of(repository.name), used, (await tagging.policy_of(session, repository)).quota)
    for subject in subjects:
        about = await by_digest(session, repository, subject)
        if about is not None:
            await tagging.changed(session, about)
    return rows


async def _recorded(
    session: AsyncSession, repository: Repository, manifest: Manifest | Index, digest: Digest, size: int,
    by: str,
) -> tuple[Row, bool]:  # fmt: skip
    """The manifest's row, and whether it is new."""
    query = select(Row).where(Row.repository_id == repository.id, Row.digest == str(digest))
    locked = query.with_for_update().execution_options(populate_existing=True)
    known: Row | None = await session.scalar(locked)
    if known is not None:
        known.deleted = None  # pushed again, it is no longer what was thrown away
        return known, False
    artifact = manifest.artifact_type
    if not artifact and isinstance(manifest, Manifest):
        artifact = manifest.config.media_type
    made = await add_once(
        session,
        Row,
        repository_id=repository.id,
        digest=str(digest),
        media_type=manifest.media_type,
        artifact_type=artifact,
        subject=str(manifest.subject.digest) if manifest.subject else None,
        size=size,
        created=now(),
        pushed_by=by,
    )
    row = await by_digest(session, repository, str(digest), lock=True)
    if row is None:
        raise Conflict(f"the manifest {digest} was removed in the same moment", hint="push it again")
    return row, made
