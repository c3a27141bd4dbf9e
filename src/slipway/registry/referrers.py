"""What refers to a manifest, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.content import BlobStore
from slipway.errors import Invalid, NotFound
from slipway.oci import Descriptor, Digest, Index, parse_manifest
from slipway.registry import manifests
from slipway.state.tables import Manifest as Row
from slipway.state.tables import Repository

PAGE = 1000
PAGE_BYTES = 3 * 1024 * 1024  # clients limit what they read of an index as they do for any manifest, to 4 MiB


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """Sorted by digest. ``last`` is where the next page goes on, empty on the last page."""

    index: Index
    last: str


async def rows(
    session: AsyncSession, repository: Repository, subject: Digest, artifact_type: str, last: str, count: int
) -> tuple[Sequence[Row], Row | None]:
    """The first ``count`` referrers after ``last``, and the index that is tagged as the subject's referrers."""
    query = select(Row).where(
        Row.repository_id == repository.id,
        Row.subject == str(subject),
        Row.digest > last,
        Row.deleted.is_(None),
    )
    if artifact_type:
        query = query.where(Row.artifact_type == artifact_type)
    found = (await session.scalars(query.order_by(Row.digest).limit(count))).all()
    return found, await manifests.by_tag(session, repository, fallback_tag(subject))


def fallback_tag(subject: Digest) -> str:
    """Under this tag clients keep an index of referrers where a registry does not know them."""
    return f"{subject.algorithm}-{subject.hex}"


def page(
    blobs: BlobStore, found: Sequence[Row], tagged: Row | None, artifact_type: str, last: str, count: int
) -> ReferrersPage:
    """Reads the manifests for their annotations: call it from a thread. ``found`` has one more than ``count`` if
    there are more."""
    listed = [
        item
        for item in (_tagged(blobs, tagged) if tagged is not None else ())
        if str(item.digest) > last and artifact_type in ("", item.artifact_type)
    ]
    listed.sort(key=_order)
    taken: list[Descriptor] = []
    size = 0
    for item in _unique(merge(_known(blobs, found), listed, key=_order)):
        size += len(str(item.to_json()))
        if len(taken) == count or (taken and size > PAGE_BYTES):
            return ReferrersPage(Index(tuple(taken)), str(taken[-1].digest))
        taken.append(item)
    return ReferrersPage(Index(tuple(taken)), "")


def _known(blobs: BlobStore, found: Iterable[Row]) -> Iterator[Descriptor]:
    for row in found:
        digest = Digest.parse(row.digest)
        try:
            parsed = parse_manifest(blobs.read(digest))
        except NotFound:
            continue  # deleted and collected since it was found
        yield Descriptor(
            row.media_type, digest, row.size, parsed.annotations, artifact_type=row.artifact_type
        )


def _tagged(blobs: BlobStore, row: Row) -> tuple[Descriptor, ...]:
    try:
        parsed = parse_manifest(blobs.read(Digest.parse(row.digest)), row.media_type)
    except (NotFound, Invalid):
        return ()
    return parsed.manifests if isinstance(parsed, Index) else ()


def _unique(items: Iterable[Descriptor]) -> Iterator[Descriptor]:
    """The first of each digest: what we know ourselves comes before what was written down elsewhere."""
    return (next(group) for _, group in groupby(items, key=_order))


def _order(item: Descriptor) -> str:
    return str(item.digest)
