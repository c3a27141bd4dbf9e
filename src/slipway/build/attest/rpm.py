"""The database of rpm, as SQLite (rpm 4.16 and later). Older ones are not read, and that is said."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

from slipway.build.attest.packages import MAX_TEXT, Package

_NAME, _VERSION, _RELEASE, _EPOCH, _LICENCE, _ARCHITECTURE, _SOURCE = 1000, 1001, 1002, 1003, 1014, 1022, 1044
_WANTED = (_NAME, _VERSION, _RELEASE, _EPOCH, _LICENCE, _ARCHITECTURE, _SOURCE)
_STRINGS, _INT32 = (6, 8, 9), 4
_MAX_HEADER, _MAX_ENTRIES, _MAX_PACKAGES = 16 * 1024 * 1024, 4096, 50_000
_MAX_INSTRUCTIONS = 50_000_000  # of SQLite's machine: a view in a hostile file may never end
_STEP = 100_000


def read_rpm(data: bytes) -> Iterator[Package]:
    """The packages of ``rpmdb.sqlite``. Raises ``ValueError`` when it is no such database."""
    try:
        blobs = _headers(data)
    except sqlite3.Error as error:
        raise ValueError(f"no database of rpm: {error}") from error
    for blob in blobs:
        try:
            package = _package(blob)
        except (struct.error, ValueError, UnicodeError):
            continue
        if package is not None:
            yield package


def _headers(data: bytes) -> list[bytes]:
    left = _MAX_INSTRUCTIONS // _STEP

    def going() -> int:
        nonlocal left
        left -= 1
        return int(left < 0)

    connection = sqlite3.connect(":memory:")
    try:
        # Two bytes say whether there is a journal beside the file (rpm's has one); in memory there is none.
        connection.deserialize(data[:18] + b"\1\1" + data[20:])
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_HEADER)
        connection.set_progress_handler(going, _STEP)
        connection.execute("PRAGMA trusted_schema=OFF")
        rows = connection.execute("SELECT blob FROM Packages").fetchmany(_MAX_PACKAGES)
        return [row[0] for row in rows if isinstance(row[0], bytes)]
    finally:
        connection.close()


def _package(blob: bytes) -> Package | None:
    """A header: counts of index entries and data bytes, the entries (tag, type, offset, count), the data."""
    entries, size = struct.unpack_from(">II", blob)
    if entries > _MAX_ENTRIES or 8 + 16 * entries + size > len(blob):
        raise ValueError("a damaged header")
    data = blob[8 + 16 * entries : 8 + 16 * entries + size]
    found: dict[int, str] = {}
    for index in range(entries):
        tag, kind, offset, count = struct.unpack_from(">IIII", blob, 8 + 16 * index)
        if tag in _WANTED and count and offset < size:
            if kind in _STRINGS:
                found[tag] = data[offset : data.index(b"\0", offset)].decode(errors="replace")[:MAX_TEXT]
            elif kind == _INT32:
                found[tag] = str(struct.unpack_from(">I", data, offset)[0])
    name, version = found.get(_NAME, ""), found.get(_VERSION, "")
    if not name or not version or name == "gpg-pubkey":
        return None
    epoch = f"{found[_EPOCH]}:" if found.get(_EPOCH, "0") != "0" else ""
    release = f"-{found[_RELEASE]}" if found.get(_RELEASE) else ""
    source, source_version = _source(found.get(_SOURCE, ""))
    if (source, source_version) == (name, f"{version}{release}"):
        source = source_version = ""
    return Package(
        "rpm", name, f"{epoch}{version}{release}", found.get(_ARCHITECTURE, ""), found.get(_LICENCE, ""),
        source=source, source_version=source_version,
    )  # fmt: skip


def _source(file: str) -> tuple[str, str]:
    """Name and version-release of a source package's file: ``bash-5.1.8-6.el9.src.rpm``."""
    stem = file.removesuffix(".rpm").removesuffix(".nosrc").removesuffix(".src")
    parts = stem.rsplit("-", 2)
    return (parts[0], f"{parts[1]}-{parts[2]}") if len(parts) == 3 and all(parts) else ("", "")
