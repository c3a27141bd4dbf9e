"""Where the logs of builds are: every event is a line of JSON.

On a machine of its own a server keeps them as files; servers that share a database keep them there, where each of them
finds what another one's builds say, while they run and when that server is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import func, select

from slipway.errors import SlipwayError
from slipway.state import Database
from slipway.state.tables import BuildLog

log = logging.getLogger(__name__)
_POLL = 0.1
_GATHER = 0.3  # seconds: lines that come together are stored together
_AGAIN = 1.0
_LAST_ATTEMPTS = 10
_MOST_WAITING = 16 * 1024 * 1024
_PIECES = 64  # read at once


class LogWriter(Protocol):
    """Of one build. Never raises: a log that cannot be kept must not hide what else is wrong."""

    def write(self, line: bytes) -> bool:
        """A line with its end, or several. Whether it is kept: not when they come too fast to be stored.

        Also after ``close``, when nobody follows the build any more.
        """
        ...

    async def close(self) -> None:
        """When it returns, readers find all that was written."""
        ...


class BuildLogs(Protocol):
    """``shared``: other servers see them, too."""

    shared: bool

    def writer(self, build_id: str) -> LogWriter: ...

    def read(self, build_id: str, goes_on: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes, None]:
        """The lines, without their ends, until ``goes_on`` says no and nothing more is there."""
        ...

    async def prune(self, oldest: datetime) -> None:
        """Remove those to which nothing was added since, as far as they do not go with the records of their builds."""
        ...


class FileLogs:
    """``directory/BUILD.jsonl``."""

    shared = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, build_id: str) -> Path:
        return self._directory / f"{build_id}.jsonl"

    def writer(self, build_id: str) -> LogWriter:
        return _FileWriter(self.path(build_id))

    async def read(
        self, build_id: str, goes_on: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[bytes, None]:
        try:
            handle = await asyncio.to_thread(self.path(build_id).open, "rb")
        except FileNotFoundError:
            return
        with handle:
            rest, going = b"", True
            while going:
                going = await goes_on()
                while data := await asyncio.to_thread(handle.read, 1 << 20):
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        yield line
                if going:
                    await asyncio.sleep(_POLL)

    async def prune(self, oldest: datetime) -> None:
        await asyncio.to_thread(self._prune, oldest.timestamp())

    def _prune(self, oldest: float) -> None:
        for path in self._directory.glob("*.jsonl"):
            if path.stat().st_mtime < oldest:
                path.unlink()


class _FileWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = path.open("ab", buffering=0)

    def write(self, line: bytes) -> bool:
        with suppress(OSError):  # a full disk must not hide the error that it causes elsewhere
            if not self._handle.closed:
                written = self._handle.write(line)
                if written < len(line):  # the next one begins a line
                    self._handle.truncate(self._handle.tell() - written)
                return written == len(line)
            with self._path.open("ab") as handle:
                handle.write(line)
                return True
        return False

    async def close(self) -> None:
        self._handle.close()


class TableLogs:
    """In the database, in pieces of some lines each."""

    shared = True

    def __init__(self, database: Database, poll: float = 0.5) -> None:
        self._database = database
        self._poll = poll

    def writer(self, build_id: str) -> LogWriter:
        return _TableWriter(self._database, build_id)

    async def read(
        self, build_id: str, goes_on: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[bytes, None]:
        last, going = 0, True
        while going:
            going = await goes_on()
            while pieces := await self._after(build_id, last):
                for number, data in pieces:
                    last = number
                    for line in data.split(b"\n")[:-1]:
                        yield line
            if going:
                await asyncio.sleep(self._poll)

    async def _after(self, build_id: str, last: int) -> list[tuple[int, bytes]]:
        query = (
            select(BuildLog.number, BuildLog.data)
            .where(BuildLog.build_id == build_id, BuildLog.number > last)
            .order_by(BuildLog.number)
            .limit(_PIECES)
        )
        async with self._database.read() as session:
            return [(number, data) for number, data in await session.execute(query)]

    async def prune(self, oldest: datetime) -> None:
        """The rows of a log go with that of their build."""


class _TableWriter:
    """Keeps what it could not store yet, and tries again."""

    def __init__(self, database: Database, build_id: str) -> None:
        self._database = database
        self._build_id = build_id
        self._waiting: list[bytes] = []
        self._size = 0
        self._storing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def write(self, line: bytes) -> bool:
        if self._size + len(line) > _MOST_WAITING:  # the database is slower than the build, or away
            return False
        self._waiting.append(line)
        self._size += len(line)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        return True

    async def close(self) -> None:
        self._closing.set()
        if self._storing is not None:
            await asyncio.shield(self._storing)

    async def _store_waiting(self) -> None:
        failed = 0
        while self._waiting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN if failed else _GATHER):
                    await self._closing.wait()
            lines, self._waiting = self._waiting, []
            try:
                await self._store(b"".join(lines))
                self._size -= sum(map(len, lines))
                failed = 0
            except SlipwayError as error:
                self._waiting = lines + self._waiting
                failed += 1
                if self._closing.is_set():
                    if failed >= _LAST_ATTEMPTS:
                        log.warning("the end of the log of %s is lost: %s", self._build_id, error.message)
                        return
                    await asyncio.sleep(_AGAIN)

    async def _store(self, data: bytes) -> None:
        top = select(func.max(BuildLog.number)).where(BuildLog.build_id == self._build_id)
        async with self._database.session() as session:
            number = (await session.scalar(top) or 0) + 1
            session.add(BuildLog(build_id=self._build_id, number=number, data=data))
