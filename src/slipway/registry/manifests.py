"""Putting and getting manifests inside a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.base.clock import now
from slipway.errors import Conflict, Invalid, NotFound
from slipway.oci import Digest, Index, Manifest
from slipway.registry import tagging, usage
from slipway.registry.repositories import project_of
from slipway.state import Database, add_once
from slipway.state.tables import Manifest as Row
from slipway.state.tables import ManifestReference, Repository, RepositoryBlob, Tag


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
    size_of: Callable[[Digest], int | None],
) -> None:
    """Raises ``MissingReference`` unless everything the manifest needs is in this repository.

    ``Invalid`` if something has another size than it says: clients plan, and limit what they read, by it.
    """
    for item in manifest.references:
        size: int | None
        if isinstance(manifest, Index):
            row = await by_digest(session, repository, str(item.digest))
            size = row.size if row is not None else None
        elif item.urls:
            continue  # a foreign layer: never fetched, need not be here
        else:
            linked = await session.get(RepositoryBlob, (repository.id, str(item.digest)))
            size = size_of(item.digest) if linked is not None else None
        if size is None:
            raise MissingReference(f"the manifest needs {item.digest}, which is not in {repository.name!r}")
        if size != item.size:
            raise Invalid(f"the manifest says {item.digest} has {item.size} bytes; it has {size}")


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
