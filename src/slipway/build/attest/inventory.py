"""Which packages are in an image, layer by layer.

A layer's *inventory* says which package records it brings (by path), and which paths it takes away. It is made while
the layer is written, from the entries that pass by, or from the blob when it is first asked for, and is kept as one
JSON file in ``directory/<hex of the layer's digest>``. An image's packages are what is left when its layers'
inventories are laid over each other.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from slipway.base.ids import new_id
from slipway.build.attest.packages import Package
from slipway.build.attest.readers import read_apk, read_dpkg, read_npm, read_os_release, read_pip
from slipway.build.attest.rpm import read_rpm
from slipway.content import ContentStore
from slipway.errors import SlipwayError
from slipway.layers import OPAQUE, WHITEOUT, Entry, read_layer
from slipway.oci import Digest, MediaType
from slipway.snapshots import LayerRef

_SMALL, _DATABASE = 1024 * 1024, 64 * 1024 * 1024
_MAX_RECORDS, _MAX_GONE = 50_000, 100_000
_NEW = ".new-"
# Of the files; one of another form is made again from the layer. 2: releases and source packages.
_FORM = 2
Reader = Callable[[bytes], Iterable[Package]]
_RECORDS: tuple[tuple[re.Pattern[str], Reader | None, int], ...] = (
    (re.compile(r"var/lib/dpkg/status(\.d/[^/]+)?"), read_dpkg, _DATABASE),
    (re.compile(r"(usr/)?lib/apk/db/installed"), read_apk, _DATABASE),
    (re.compile(r"(var/lib|usr/lib/sysimage)/rpm/rpmdb\.sqlite"), read_rpm, _DATABASE),
    (re.compile(r"(var/lib|usr/lib/sysimage)/rpm/Packages(\.db)?"), None, 0),
    (
        re.compile(r".*(site|dist)-packages/[^/]+\.(dist-info/METADATA|egg-info(/PKG-INFO)?)"),
        read_pip,
        _SMALL,
    ),
    (re.compile(r"(.*/)?node_modules/(@[^/]+/)?[^/]+/package\.json"), read_npm, _SMALL),
)
_RELEASE = re.compile(r"(etc|usr/lib)/os-release")
# A layer has up to a million paths: most are told apart by their last part, without a regular expression.
_LAST = frozenset(
    {
        "status", "installed", "rpmdb.sqlite", "Packages", "Packages.db", "METADATA", "PKG-INFO", "package.json",
        "os-release",
    }
)  # fmt: skip


@dataclass(slots=True)
class LayerInventory:
    """``records``: packages by the path that tells of them; ``gone``: removed paths; ``emptied``: directories whose
    earlier content does not show; ``notes``: what could not be read."""

    records: dict[str, list[Package]] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    distribution: str = ""
    notes: list[str] = field(default_factory=list)
    release: str = ""

    def to_json(self) -> dict[str, Any]:
        records = {path: [item.to_json() for item in found] for path, found in self.records.items()}
        return {
            "records": records, "gone": self.gone, "emptied": self.emptied, "distribution": self.distribution,
            "notes": self.notes, "release": self.release, "form": _FORM,
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LayerInventory:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what this version did not write."""
        if value["form"] != _FORM:
            raise ValueError(f"an inventory of form {value['form']}")
        records = {
            path: [Package.from_json(item) for item in found] for path, found in value["records"].items()
        }
        return cls(
            records, list(value["gone"]), list(value["emptied"]), value["distribution"], list(value["notes"]),
            value["release"],
        )  # fmt: skip


class Watch:
    """Looks at a layer's entries as they pass by on their way into the archive."""

    def __init__(self) -> None:
        self.found = LayerInventory()

    def through(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            last = entry.path.rpartition("/")[2]
            if last.startswith(WHITEOUT):
                self._removed(entry.path, last)
            elif entry.kind == "file" and (
                last in _LAST or last.endswith(".egg-info") or "/status.d/" in entry.path
            ):
                entry = self._looked_at(entry)
            yield entry

    def _removed(self, path: str, last: str) -> None:
        parent = path[: -len(last)]
        if len(self.found.gone) + len(self.found.emptied) >= _MAX_GONE:
            return
        if last == OPAQUE:
            self.found.emptied.append(parent.rstrip("/"))
        else:
            self.found.gone.append(parent + last.removeprefix(WHITEOUT))

    def _looked_at(self, entry: Entry) -> Entry:
        """Read a record; an entry that can be read only once comes back with its content in hand."""
        reader, limit, release = _reader(entry.path)
        if reader is None and not release:
            if limit == 0 and any(
                pattern.fullmatch(entry.path) for pattern, read, _ in _RECORDS if read is None
            ):
                self.found.notes.append(f"{entry.path}: an old database of rpm, not read")
            return entry
        if entry.size > limit or len(self.found.records) >= _MAX_RECORDS:
            self.found.notes.append(f"{entry.path}: too large or too many, not read")
            return entry
        data = _content(entry)
        if release:
            self.found.distribution, self.found.release = read_os_release(data)
        elif reader is not None:
            try:
                self.found.records[entry.path] = list(reader(data))
            except ValueError as error:
                self.found.notes.append(f"{entry.path}: {error}"[:300])
        if entry.open is not None:
            return entry
        return Entry(
            entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.mtime, len(data), entry.target,
            entry.device, entry.xattrs, None, lambda: iter([data]),
        )  # fmt: skip


class Inventories:
    """The inventories on disk. Everything blocks."""

    def __init__(self, directory: Path, blobs: ContentStore) -> None:
        self._directory = directory
        self._blobs = blobs
        self._turns: WeakValueDictionary[Digest, threading.Lock] = WeakValueDictionary()
        self._guard = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, layer: Digest, found: LayerInventory) -> None:
        """A full disk costs the time to look again, no more."""
        draft = self._directory / f"{_NEW}{new_id()}"
        with suppress(OSError):
            draft.write_text(json.dumps(found.to_json(), separators=(",", ":")))
            os.replace(draft, self._path(layer))
        draft.unlink(missing_ok=True)

    def of(self, layer: LayerRef) -> LayerInventory:
        """A layer's inventory, read from the blob if there is none. A blob that cannot be read is noted."""
        if (found := self._kept(layer.blob.digest)) is not None:
            return found
        # Many builds on a base that is new ask at the same time: one reads it.
        with self._turn(layer.blob.digest):
            return self._kept(layer.blob.digest) or self._read(layer)

    def _kept(self, layer: Digest) -> LayerInventory | None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return LayerInventory.from_json(json.loads(self._path(layer).read_bytes()))
        return None

    def _turn(self, layer: Digest) -> threading.Lock:
        """The layer's own, for as long as anybody has or wants it."""
        with self._guard:
            return self._turns.setdefault(layer, threading.Lock())

    def _read(self, layer: LayerRef) -> LayerInventory:
        watch = Watch()
        try:
            with self._blobs.open(layer.blob.digest) as stream:
                for entry in watch.through(read_layer(stream, MediaType.compression(layer.blob.media_type))):
                    del entry
        except SlipwayError as error:
            watch.found.notes.append(
                f"the layer {layer.blob.digest.short} could not be read: {error.message}"[:300]
            )
            return watch.found
        self.keep(layer.blob.digest, watch.found)
        return watch.found

    def image(self, layers: Iterable[LayerRef]) -> tuple[list[Package], list[str]]:
        """The packages of an image, sorted, each once, and the notes."""
        return merged(self.of(layer) for layer in layers)

    def prune(self, older_than: float) -> int:
        """Remove inventories last used before this time (seconds since the epoch); how many."""
        gone = [path for path in self._directory.iterdir() if path.stat().st_mtime < older_than]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _path(self, layer: Digest) -> Path:
        return self._directory / layer.hex


def merged(layers: Iterable[LayerInventory]) -> tuple[list[Package], list[str]]:
    """Inventories laid over each other, bottom first."""
    records: dict[str, list[Package]] = {}
    notes: list[str] = []
    distribution = release = ""
    for layer in layers:
        if layer.distribution:
            distribution, release = layer.distribution, layer.release
        notes += layer.notes
        if records and (layer.gone or layer.emptied):
            gone = set(layer.gone)
            below = (*layer.gone, *layer.emptied)
            records = {
                path: found
                for path, found in records.items()
                if path not in gone and not _below(path, below, gone)
            }
        records |= layer.records
    found = set()
    for packages in records.values():
        for item in packages:
            system = item.kind in ("deb", "apk", "rpm")
            found.add(replace(item, distribution=distribution, release=release) if system else item)
    return sorted(found), notes


def _below(path: str, directories: tuple[str, ...], gone: set[str]) -> bool:
    """Whether a path lies below one of the directories; a walk up its parents if those are many."""
    parts = path.split("/")
    parents = {"/".join(parts[:index]) for index in range(1, len(parts))}
    return not parents.isdisjoint(directories) or ("" in directories and "" not in gone)


def _reader(path: str) -> tuple[Reader | None, int, bool]:
    if _RELEASE.fullmatch(path):
        return None, _SMALL, True
    for pattern, reader, limit in _RECORDS:
        if pattern.fullmatch(path):
            return reader, limit, False
    return None, -1, False


def _content(entry: Entry) -> bytes:
    if entry.chunks is not None:
        return b"".join(entry.chunks())
    assert entry.open is not None
    with os.fdopen(entry.open(), "rb") as handle:
        return handle.read(entry.size)
