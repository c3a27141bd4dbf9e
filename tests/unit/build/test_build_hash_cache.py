"""Hashes that are remembered take a bounded place, and none is ever another file's."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.build.context import Context
from slipway.build.copy import contents
from slipway.build.copy.contents import HashCache

_FACTS = st.tuples(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**63),
    st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(_FACTS, min_size=1, max_size=40, unique=True), st.integers(1, 8))
def test_what_is_remembered_is_right_or_forgotten(
    keys: list[tuple[int, int, int, int, int]], buckets: int
) -> None:
    cache = HashCache(buckets)
    for key in keys:
        cache._remember(key, _digest(key))
        assert cache._get(key) == _digest(key)
    kept = [key for key in keys if (found := cache._get(key)) is not None and found == _digest(key)]
    assert all(cache._get(key) in (None, _digest(key)) for key in keys)
    assert 1 <= len(kept) <= 2 * buckets


def _digest(key: tuple[int, int, int, int, int]) -> bytes:
    return hashlib.sha256(repr(key).encode()).digest()


def test_a_settled_file_is_hashed_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("content")
    cache = HashCache()
    with Context(tmp_path) as context:
        entry = context.iterdir("")[0]
        time.sleep(contents._SETTLED_NS / 1e9 + 0.1)
        first = cache.digest(entry)
        assert first == hashlib.sha256(b"content").digest()
        (tmp_path / "f").unlink()
        assert cache.digest(entry) == first, "it was opened once more"


def test_half_a_million_files_take_no_more_than_their_table() -> None:
    cache = HashCache()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    for number in range(300_000):
        cache._remember((1, number, 3, number * 7, number * 11), bytes(32))
    assert resident() - before < 40 * 1024 * 1024
    kept = sum(
        cache._get((1, number, 3, number * 7, number * 11)) is not None for number in range(200_000, 300_000)
    )
    assert kept > 95_000


def test_a_file_that_goes_while_its_directory_is_listed_was_not_there(tmp_path: Path) -> None:
    """As an editor's own files do."""
    (tmp_path / "kept").touch()
    (tmp_path / "swap").touch()

    def looked(path: str, is_directory: bool) -> bool:
        (tmp_path / "swap").unlink(missing_ok=True)
        return False

    with Context(tmp_path, looked) as context:
        assert [entry.path for entry in context.iterdir("")] == ["kept"]
