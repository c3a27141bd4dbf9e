"""Blobs that are read while they come."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from slipway.build.pod.arriving import Arrival, ArrivingFile, cut_off
from slipway.errors import Invalid, Unavailable
from slipway.oci import Digest

PIECES = [b"one", b"two" * 100_000, b"three"]
WHOLE = b"".join(PIECES)


def test_a_reader_goes_along(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path, Digest.of(WHOLE))
    found: list[bytes] = []
    seen = threading.Semaphore(0)

    def read() -> None:
        with ArrivingFile(arrival) as stream:
            while piece := stream.read(1 << 16):
                found.append(piece)
                seen.release()

    reader = threading.Thread(target=read)
    reader.start()
    for piece in PIECES:
        arrival.write(piece)
        assert seen.acquire(timeout=10)
    arrival.end()
    reader.join(10)
    assert b"".join(found) == WHOLE
    with ArrivingFile(arrival) as again:
        assert again.read() == WHOLE
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_were_asked_for(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path, Digest.of(b"other"))
    arrival.write(WHOLE)
    arrival.end()
    with pytest.raises(Invalid, match="damaged on the way"), ArrivingFile(arrival) as stream:
        assert stream.read(3) == b"one"  # who stops early is told when leaving


def test_what_ends_on_the_way(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path, Digest.of(WHOLE))
    arrival.write(PIECES[0])
    arrival.end(cut_off(KeyboardInterrupt()))
    stream = ArrivingFile(arrival)
    assert stream.read(10) == b"one"
    with pytest.raises(Unavailable, match="given up"):
        stream.read(10)


def test_an_error_of_the_reader_is_not_covered(tmp_path: Path) -> None:
    arrival = Arrival(tmp_path, Digest.of(WHOLE))
    with pytest.raises(ZeroDivisionError), ArrivingFile(arrival):
        raise ZeroDivisionError
