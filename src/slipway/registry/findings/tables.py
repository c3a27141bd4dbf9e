"""The tables of the index, and how they are written: ``advisories`` has what is said once, ``affected`` one package
of one advisory. A file is written as a draft that nobody else sees, and never changed once it has its name."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from slipway.registry.findings import packed
from slipway.registry.findings.advisories import Advisory
from slipway.registry.findings.ecosystems import ORDERS, base_of, normalised

_FORM = 1
_SCHEMA = """
CREATE TABLE sources (name TEXT PRIMARY KEY, loaded TEXT NOT NULL, advisories INTEGER NOT NULL);
CREATE TABLE advisories (number INTEGER PRIMARY KEY, source TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE affected (
    base TEXT NOT NULL, name TEXT NOT NULL, ecosystem TEXT NOT NULL, advisory INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE TABLE ecosystems (name TEXT PRIMARY KEY);
"""
_FINISH = """
CREATE INDEX affected_by_package ON affected (base, name);
DELETE FROM ecosystems;
INSERT INTO ecosystems SELECT DISTINCT ecosystem FROM affected;
"""


def opened(path: Path) -> sqlite3.Connection | None:
    """A read-only connection; ``None`` for a file of another version. Raises ``sqlite3.Error``."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
    )
    try:
        ours = connection.execute("PRAGMA user_version").fetchone()[0] == _FORM
    except sqlite3.Error:
        connection.close()
        raise
    if not ours:
        connection.close()
        return None
    return connection


def draft_of(path: Path, draft: Path) -> sqlite3.Connection:
    """A copy to write into, without its index, which is quicker made at the end; or an empty file."""
    present = opened(path) if path.exists() else None
    if present is not None:
        present.close()
        shutil.copyfile(path, draft)
    connection = sqlite3.connect(draft)
    # Nobody sees the file before it is whole, so it needs no journal; the cache is what bounds the memory.
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-32768")
    if present is None:
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version={_FORM}")
    else:
        connection.execute("DROP INDEX affected_by_package")
    return connection


def finish(connection: sqlite3.Connection) -> None:
    """What is made from the rest, when all of it is there."""
    connection.commit()
    connection.executescript(_FINISH)
    connection.commit()


def forget(connection: sqlite3.Connection, source: str) -> None:
    connection.execute(
        "DELETE FROM affected WHERE advisory IN (SELECT number FROM advisories WHERE source = ?)", (source,)
    )
    connection.execute("DELETE FROM advisories WHERE source = ?", (source,))
    connection.execute("DELETE FROM sources WHERE name = ?", (source,))


def insert(connection: sqlite3.Connection, source: str, advisory: Advisory) -> bool:
    """Whether anything of it can be matched; what cannot is not kept."""
    entries = [item for item in advisory.affected if base_of(item.ecosystem) in ORDERS]
    if not entries:
        return False
    number = connection.execute(
        "INSERT INTO advisories (source, data) VALUES (?, ?)", (source, packed.of_advisory(advisory))
    ).lastrowid
    rows = []
    for item in entries:
        base = base_of(item.ecosystem)
        rows.append((base, normalised(base, item.name), item.ecosystem, number, packed.of_affected(item)))
    connection.executemany("INSERT INTO affected VALUES (?, ?, ?, ?, ?)", rows)
    return True
