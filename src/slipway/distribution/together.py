"""Blobs and images, a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from slipway.base.tasks import first_error
from slipway.oci import Descriptor

_AT_ONCE = 4
T = TypeVar("T")
R = TypeVar("R")


class Turns:
    """Who wants the same thing as somebody else waits until that one is done with it."""

    def __init__(self) -> None:
        self._locks: dict[object, asyncio.Lock] = {}
        self._wanted: dict[object, int] = {}

    @asynccontextmanager
    async def of(self, key: object) -> AsyncIterator[None]:
        self._wanted[key] = self._wanted.get(key, 0) + 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key], self._locks[key]


async def several(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], at_once: int
) -> AsyncGenerator[tuple[T, R], None]:
    """Each item with what ``work`` made of it, in the order of ``items``; at most ``at_once`` are under way.

    The first error ends it: what is under way then is cancelled, and was not told of.
    """
    running: deque[tuple[T, asyncio.Task[R]]] = deque()
    try:
        for item in items:
            running.append((item, asyncio.ensure_future(_awaited(work, item))))
            if len(running) >= at_once:
                first, task = running[0]
                done = await task
                running.popleft()
                yield first, done
        while running:
            first, task = running[0]
            done = await task
            running.popleft()
            yield first, done
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


async def _awaited(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)


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
        raise first_error(errors) from None
