"""The blobs of an image, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from slipway.oci import Descriptor

_AT_ONCE = 4


async def each_blob(blobs: Iterable[Descriptor], work: Callable[[Descriptor], Awaitable[None]]) -> None:
    """``work`` for every digest once. Raises the first error, when what else was under way has ended."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(blob: Descriptor) -> None:
        async with slots:
            await work(blob)

    try:
        async with asyncio.TaskGroup() as group:
            for blob in {item.digest: item for item in blobs}.values():
                group.create_task(one(blob))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
