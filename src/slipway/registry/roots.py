"""Every digest that something references: what collection must keep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from sqlalchemy import text

from slipway.oci import Digest
from slipway.state import Database

_PAGE = 5000
_QUERIES = tuple(
    text(
        f"SELECT DISTINCT {name} FROM {table} WHERE {name} > :after AND {name} <= :last ORDER BY {name} LIMIT :count"
    )
    for table, name in (
        ("manifests", "digest"),
        ("manifest_references", "digest"),
        ("build_cache", "layer_digest"),
        ("shared_files", "digest"),
    )
)
_END = "t"  # behind every digest


class Roots:
    """In pages, however many there are, by the index of each table.

    Each page is of its own moment. That is enough: a reference that is there all the time is on the page of its key,
    and who makes a new one holds a lease of the blob meanwhile.
    """

    def __init__(self, database: Database, page: int = _PAGE) -> None:
        self._database = database
        self._page = page

    async def pages(
        self, first: Digest | None = None, last: Digest | None = None
    ) -> AsyncIterator[list[Digest]]:
        """All of them, or those between two, both included; some digests more than once.

        Databases compare texts as languages do. Of two digests of one algorithm, being of one length and of digits and
        small letters, they say the same as we do.
        """
        for query in _QUERIES:
            after = str(first)[:-1] if first else ""  # just before the first
            while True:
                async with self._database.read() as session:
                    values = {"after": after, "last": str(last) if last else _END, "count": self._page}
                    found = list(await session.scalars(query, values))
                if not found:
                    break
                yield [Digest.parse(digest) for digest in found]
                after = found[-1]

    def from_thread(self, loop: asyncio.AbstractEventLoop, first: Digest, last: Digest) -> Iterator[Digest]:
        """Those between two, for a thread: the questions are asked on ``loop``, which must not wait for this thread."""
        pages = self.pages(first, last)

        async def following() -> list[Digest] | None:
            return await anext(pages, None)

        while (page := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
            yield from page
