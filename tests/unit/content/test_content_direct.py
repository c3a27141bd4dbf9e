"""Uploads that go past the page cache: the same bytes, whatever their pieces were and whatever the file system can."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from slipway.content import LocalStore, direct
from slipway.errors import Exhausted
from slipway.oci import Digest

MIB = 1024 * 1024
DATA = os.urandom(7 * MIB + 12345)


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_BEGIN", MIB)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.mark.parametrize("piece", [MIB, MIB + 4096, 3 * MIB, MIB + 17, 2 * MIB - 512, len(DATA)])
def test_pieces_of_any_size_make_the_blob(store: LocalStore, piece: int) -> None:
    upload = store.upload("one", create=True)
    for offset in range(0, len(DATA), piece):
        upload.append(memoryview(DATA)[offset : offset + piece])
        if piece == MIB:  # another request goes on
            upload.close()
            upload = store.upload("one")
    digest, size = upload.commit(Digest.of(DATA))
    assert (size, list(store.fsck())) == (len(DATA), [])
    assert store.path(digest).read_bytes() == DATA


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_a_file_system_that_cannot_is_written_to_as_usual(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    original = getattr(os, call)

    def refuse(*arguments: int, **named: int) -> int:
        if call == "pwrite" or arguments[1] & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not here")
        found: int = original(*arguments, **named)
        return found

    upload = store.upload("one", create=True)
    monkeypatch.setattr(os, call, refuse)
    for offset in range(0, len(DATA), MIB):
        upload.append(DATA[offset : offset + MIB])
    digest, _ = upload.commit(Digest.of(DATA))
    assert store.path(digest).read_bytes() == DATA


def test_a_full_disk_is_named_and_the_upload_goes_on_afterwards(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.upload("one", create=True)
    upload.append(DATA[:MIB])
    pwrite, calls = os.pwrite, list[int]()

    def full(fd: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Exhausted):
        upload.append(DATA[MIB : 4 * MIB])
    assert upload.offset == MIB
    upload.append(DATA[MIB:])
    digest, _ = upload.commit(Digest.of(DATA))
    assert store.path(digest).read_bytes() == DATA
    assert len(calls) > 3
