"""Which blobs a repository has: written for all who push at the same moment in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from slipway.base.clock import now
from slipway.errors import Unavailable
from slipway.oci import Digest
from slipway.registry import repositories
from slipway.state import Database

_REPOSITORY = "SELECT id FROM repositories WHERE name = :repository"
_LINK = (
    "INSERT INTO repository_blobs (repository_id, digest, size, linked) VALUES (:repository, :digest, :size, :linked) "
    "ON CONFLICT DO NOTHING"
)


class Links:
    """``add`` returns when the link is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def ensure(self, repository: str) -> int:
        """The repository's row, made if its project exists. Raises ``NotFound`` for an unknown project."""
        found = await self._database.look_up(_REPOSITORY, repository=repository)
        if found:
            return int(found[0][0])
        async with self._database.session() as session:
            return (await repositories.ensure(session, repository)).id

    async def add(self, repository: str, digest: Digest, size: int) -> None:
        """Make a blob readable in the repository. Idempotent. Raises ``NotFound``, ``Unavailable``, ``Exhausted``."""
        row = {
            "repository": await self.ensure(repository),
            "digest": str(digest),
            "size": size,
            "linked": now(),
        }
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        try:
            await done
        except Exception:
            # Another's row may be to blame, or the repository was just removed: alone, it is told to whom it belongs.
            async with self._database.session() as session:
                owner = await repositories.ensure(session, repository)
                await repositories.link(session, owner, (digest, size))

    async def _write(self) -> None:
        """Those who come while a transaction is on its way are the next one's."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                error: Exception | None = None
                try:
                    await self._database.write(_LINK, [row for row, _ in batch])
                except Exception as caught:
                    error = caught
                except BaseException:  # the server ends
                    _tell(batch + self._waiting, Unavailable("the registry is shutting down"))
                    raise
                _tell(batch, error)
        finally:
            self._writing = None


def _tell(batch: list[tuple[dict[str, Any], asyncio.Future[None]]], error: Exception | None) -> None:
    for _, done in batch:
        with contextlib.suppress(asyncio.InvalidStateError):  # who asked has left
            done.set_result(None) if error is None else done.set_exception(error)
