"""Objects of one bucket below one prefix: the few requests we make, and the errors they may end with."""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore import exceptions

from slipway.errors import SlipwayError, Unavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)
_PAGE = 1000
_SAID = 400
_ATTEMPTS, _PAUSE, _SECONDS = 6, 0.05, 20.0  # at most, and how long a new attempt is begun
_REFUSED = (exceptions.UnauthenticatedError, exceptions.PermissionDeniedError)
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
    """Blocking requests, each repeated a few times when the server fails; then ``Unavailable``.

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
            return _item(_asked(lambda: obstore.head(self._store, key), key))
        except Missing:
            return None

    def list(self, prefix: str, after: str = "") -> list[Item]:
        """Everything below ``prefix`` in the order of names; with ``after`` only what is behind that one."""
        return [item for page in self.scan(prefix, after) for item in page]

    def scan(self, prefix: str, after: str = "") -> Iterator[Sequence[Item]]:
        """The same in pages, for listings that may be long."""
        while page := _asked(partial(self._page, prefix, after), prefix):
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def _page(self, prefix: str, after: str) -> Sequence[Item]:
        stream = obstore.list(self._store, prefix, offset=after or None, chunk_size=_PAGE)
        return [_item(found) for found in next(iter(stream), ())]

    def delete(self, keys: Sequence[str]) -> None:
        """Those that are there, one after another."""
        for key in keys:
            with contextlib.suppress(Missing):
                _asked(partial(obstore.delete, self._store, key), key)

    def clock(self) -> float:
        """The server's time, by which it dates what is written: ours may be another."""
        for _ in range(_ATTEMPTS):
            self.put("clock", b"now")
            # Some servers miss an object for a moment while it is replaced, as by another collector now.
            if found := self.look("clock"):
                return found.modified
        raise Unavailable("the bucket does not keep what is written to it")


def _item(found: ObjectMeta) -> Item:
    return Item(found["path"], found["size"], found["last_modified"].timestamp(), found["e_tag"] or "")


def _asked(request: Callable[[], _Result], key: str) -> _Result:
    began = time.monotonic()
    for attempt in itertools.count(1):
        try:
            return request()
        except FileNotFoundError as error:
            raise Missing(f"there is no object {key}") from error
        except (exceptions.BaseError, OSError) as error:
            text = str(error).partition("\n")[0][:_SAID]  # what follows are the client's internals
            refused = isinstance(error, _REFUSED) or _is_refused(text)
            if refused:
                raise Unavailable(
                    f"the bucket refuses us: {text}", hint="storage.access_key and storage.secret_key"
                ) from error
            if attempt == _ATTEMPTS or time.monotonic() - began > _SECONDS or _is_final(text):
                log.warning("%s: %s", key, text)
                raise Unavailable(f"the bucket does not answer: {text}") from error
            time.sleep(random.uniform(0.5, 1) * _PAUSE * 2**attempt)
    raise AssertionError("unreachable")


def _is_refused(text: str) -> bool:
    return any(f"status code: {code} " in text for code in (401, 403))


def _is_final(text: str) -> bool:
    """A request that is wrong stays wrong; too many of them (429) and late ones (408) may be asked again."""
    found = re.search(r"status code: 4(\d\d) ", text)
    return found is not None and found[1] not in ("08", "09", "29")
