"""A whole image, or an index of several, from the content store to another registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from slipway.base.throttle import Throttle
from slipway.content import BlobStore
from slipway.distribution.remote import RemoteRegistry
from slipway.distribution.together import Turns, each_blob
from slipway.oci import Descriptor, Digest, Index, Reference, parse_manifest

UNLIMITED = Throttle(0)
_PIECE = 1024 * 1024
Uploaded = Callable[[Descriptor, bool], None]
"""Told of each blob that is there now, and whether it was there before."""


async def push(
    remote: RemoteRegistry, target: Reference, data: bytes, media_type: str, blobs: BlobStore, uploaded: Uploaded,
    throttle: Throttle = UNLIMITED, headers: Mapping[str, str] | None = None, turns: Turns | None = None,
) -> None:  # fmt: skip
    """Upload what the registry lacks, the manifest (with ``headers``) last. The caller holds a lease on all of it.

    Several pushes to a registry at once share ``turns``, so that what they have in common goes over the line once.
    """
    turns = turns or Turns()
    manifest = parse_manifest(data, media_type)
    if isinstance(manifest, Index):
        for item in manifest.manifests:
            below = await asyncio.to_thread(blobs.read, item.digest)
            there = target.with_digest(item.digest)
            await push(remote, there, below, item.media_type, blobs, uploaded, throttle, turns=turns)
    else:

        async def one(blob: Descriptor) -> None:
            async with turns.of((target.repository, blob.digest)):
                known = await remote.has_blob(target, blob.digest)
                if not known:
                    await remote.put_blob(target, blob, _content(blobs, blob.digest, throttle))
            uploaded(blob, known)

        await each_blob((item for item in manifest.references if not item.urls), one)
    await remote.put_manifest(target, data, media_type, headers)


async def _content(blobs: BlobStore, digest: Digest, throttle: Throttle) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(blobs.open, digest) as stream:
        while piece := await asyncio.to_thread(stream.read, _PIECE):
            await throttle.take(len(piece))
            yield piece
