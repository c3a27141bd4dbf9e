"""Objects of one bucket below one prefix: the few requests we make, and the errors they may end with."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore import exceptions

from slipway.errors import SlipwayError, Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)
_PAGE = 1000
_SAID = 300
BETWEEN_CLOCKS = timedelta(minutes=1)  # by how much the clocks of two machines may differ
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Item:
    """One object: its key below the prefix, its bytes, the server's time of its last writing, its mark."""

    key: str
    size: int
    modified: float
    etag: str


class Missing(SlipwayError):
    """There is no such object. Never leaves this package."""

    kind = "not_found"


class Objects:
    """Blocking requests, each repeated by the client a few times when the server fails; then ``Unavailable``.

    A request that is repeated may have been done the first time. So every writer chooses names that nobody else uses,
    and writing or deleting twice is the same as once.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Whole or not at all."""
        _asked(lambda: obstore.put(self._store, key, data, use_multipart=False), key)

    def get(self, key: str) -> bytes:
        """Raises ``Missing``."""
        return _asked(lambda: bytes(obstore.get(self._store, key).bytes()), key)

    def part(self, key: str, first: int, count: int) -> bytes:
        """Raises ``Missing``, and ``Unavailable`` when fewer bytes come."""
        data = _asked(lambda: bytes(obstore.get_range(self._store, key, start=first, length=count)), key)
        if len(data) != count:
            raise Unavailable(f"the bucket sent {len(data)} bytes of {key}, not {count}")
        return data

    def look(self, key: str) -> Item | None:
        try:
            found = _asked(lambda: obstore.head(self._store, key), key)
        except Missing:
            return None
        return Item(key, found["size"], found["last_modified"].timestamp(), found["e_tag"] or "")

    def list(self, prefix: str, after: str = "") -> list[Item]:
        """Everything below ``prefix``, sorted by name; with ``after`` only the keys behind that one."""
        stream = obstore.list(self._store, prefix, offset=after or None, chunk_size=_PAGE)
        found = _asked(stream.collect, prefix)
        items = [
            Item(item["path"], item["size"], item["last_modified"].timestamp(), item["e_tag"] or "")
            for item in found
        ]
        return sorted(items, key=lambda item: item.key)

    def scan(self, prefix: str) -> Iterator[Sequence[Item]]:
        """The same in pages, for listings that may be long."""
        stream = iter(obstore.list(self._store, prefix, chunk_size=_PAGE))
        while (page := _asked(lambda: next(stream, None), prefix)) is not None:
            yield [
                Item(item["path"], item["size"], item["last_modified"].timestamp(), item["e_tag"] or "")
                for item in page
            ]

    def delete(self, keys: Sequence[str]) -> None:
        """Those that are there."""
        for key in keys:
            with contextlib.suppress(Missing):
                _asked(lambda key=key: obstore.delete(self._store, key), key)  # type: ignore[misc]

    def clock(self) -> float:
        """The server's time, by which it dates what is written: ours may be another."""
        self.put("clock", b"now")
        found = self.look("clock")
        if found is None:
            raise Unavailable("the bucket does not keep what is written to it")
        return found.modified


def _asked(request: Callable[[], _Result], key: str) -> _Result:
    try:
        return request()
    except FileNotFoundError as error:
        raise Missing(f"there is no object {key}") from error
    except (exceptions.UnauthenticatedError, exceptions.PermissionDeniedError) as error:
        raise Unavailable(
            f"the bucket refuses us: {_text(error)}", hint="storage.access_key and storage.secret_key"
        ) from error
    except (exceptions.BaseError, OSError) as error:
        log.warning("%s: %s", key, _text(error))
        raise Unavailable(f"the bucket does not answer: {_text(error)}") from error


def _text(error: Exception) -> str:
    """The first line: what follows are the client's internals."""
    return str(error).partition("\n")[0][:_SAID]
