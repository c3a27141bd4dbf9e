"""The advisories on disk: one SQLite file, made anew by each load and put in place by renaming.

Readers have the file of before until they look again, so a load disturbs no one and may fail at any point.
``path.lock`` is held while a file is made. Rows are found by ecosystem and name; values are JSON, compressed where that
is shorter.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from slipway.base.clock import iso, now
from slipway.base.files import fsync_directory
from slipway.base.ids import new_id
from slipway.errors import Unavailable
from slipway.registry.findings import packed, tables
from slipway.registry.findings.advisories import Advisory, Affected
from slipway.registry.findings.ecosystems import base_of, normalised
from slipway.registry.findings.osv import LIMITS, Counts, Limits, read


class Lookup(Protocol):
    """What matching asks."""

    def lookup(self, ecosystem: str, name: str, means: Callable[[str], bool] | None = None) -> list[Advisory]:
        """The advisories of a package, each with only the entries that are for it.

        ``lookup("Debian", "curl")`` has those of every release, ``lookup("Debian:12", "curl")`` those of one and those
        for no release in particular; ``means`` decides by the ecosystem's whole name instead.
        """
        ...

    def ecosystems(self) -> frozenset[str]:
        """The ecosystems, with their releases, that there is any advisory of. A package of another one is not known
        to be free of findings."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was loaded, by the name it was given."""

    name: str
    loaded: datetime
    advisories: int


class Advisories:
    """An index of advisories. Everything blocks; any thread may call, and several processes may share the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int, int] | None = None

    def load(self, file: Path, source: str = "", limits: Limits = LIMITS) -> Counts:
        """Read a dump into the index, in place of what came before under the same ``source``.

        ``all.zip`` of osv.dev is one ecosystem's, so each ecosystem is a source of its own. On any error the index is
        as it was. Raises ``Invalid`` and ``NotFound`` for the file, ``Unavailable`` for the disk.
        """
        counts = Counts()
        with self._made_anew() as connection:
            tables.forget(connection, source)
            kept = 0
            for advisory in read(file, counts, limits):
                if tables.insert(connection, source, advisory):
                    kept += 1
                else:
                    counts.unused += 1
            connection.execute("INSERT INTO sources VALUES (?, ?, ?)", (source, iso(now()), kept))
        return counts

    def remove(self, source: str) -> None:
        """Forget what came under this name; nothing happens if there is no such source."""
        with self._made_anew() as connection:
            tables.forget(connection, source)

    def lookup(self, ecosystem: str, name: str, means: Callable[[str], bool] | None = None) -> list[Advisory]:
        """See ``Lookup``. An advisory that several sources have comes once, as it was modified last."""
        base = base_of(ecosystem)
        rows = self._rows(
            "SELECT advisories.data, affected.advisory, affected.ecosystem, affected.data FROM affected"
            " JOIN advisories ON advisories.number = affected.advisory"
            " WHERE affected.base = ? AND affected.name = ? ORDER BY affected.advisory",
            (base, normalised(base, name)),
        )
        whole: dict[int, Advisory] = {}
        entries: dict[int, list[Affected]] = {}
        try:
            for data, number, place, value in rows:
                if means(place) if means is not None else ecosystem == base or place in (base, ecosystem):
                    entries.setdefault(number, []).append(packed.affected(value, place, name))
                    if number not in whole:
                        whole[number] = packed.advisory(data)
        except (ValueError, TypeError, zlib.error) as error:
            raise self._unreadable(error) from error
        by_id: dict[str, Advisory] = {}
        for number, item in sorted(whole.items(), key=lambda pair: pair[1].modified):
            by_id[item.id] = replace(item, affected=tuple(entries[number]))
        return list(by_id.values())

    def ecosystems(self) -> frozenset[str]:
        """See ``Lookup``."""
        return frozenset(name for (name,) in self._rows("SELECT name FROM ecosystems", ()))

    def sources(self) -> list[Source]:
        rows = self._rows("SELECT name, loaded, advisories FROM sources ORDER BY name", ())
        return [Source(name, datetime.fromisoformat(loaded), count) for name, loaded, count in rows]

    @property
    def updated(self) -> datetime | None:
        """When something was last loaded; ``None`` if nothing ever was."""
        return max((item.loaded for item in self.sources()), default=None)

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._opened = None

    def _rows(self, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                connection = self._current()
                return connection.execute(statement, values).fetchall() if connection is not None else []
            except sqlite3.Error as error:
                self._close()
                raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the index of advisories {self._path} cannot be read: {error}",
            hint="remove the file and load the databases again",
        )

    def _current(self) -> sqlite3.Connection | None:
        """A connection to the file that is there now; ``None`` if there is none, or one of another version."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._close()
            return None
        identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        if identity != self._opened:
            self._close()
            self._connection = tables.opened(self._path)
            self._opened = identity
        return self._connection

    @contextlib.contextmanager
    def _made_anew(self) -> Iterator[sqlite3.Connection]:
        """A writable copy of the file, which takes its place when the block ends well."""
        directory = self._path.parent
        draft = directory / f".{self._path.name}.{new_id()}"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for left in directory.glob(f".{self._path.name}.*"):  # by a process that was killed
                    left.unlink(missing_ok=True)
                connection = tables.draft_of(self._path, draft)
                try:
                    yield connection
                    tables.finish(connection)
                finally:
                    connection.close()
                with draft.open("rb") as handle:
                    os.fsync(handle.fileno())
                os.rename(draft, self._path)
                fsync_directory(directory)
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the index of advisories {self._path} cannot be written: {error}") from error
        finally:
            draft.unlink(missing_ok=True)
