"""gzip with stored parts: every decompressor reads it, and how it came in pieces makes no difference."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import zlib
from collections.abc import Iterator

import pytest

from slipway.layers.compression import decompressed
from slipway.layers.gzip import Gzip

MIB = 1024 * 1024


def packed(data: bytes, pieces: Iterator[int]) -> bytes:
    compressor, found, at = Gzip(), [], 0
    while at < len(data):
        size = next(pieces)
        found.append(compressor.compress(data[at : at + size]))
        at += size
    return b"".join([*found, compressor.flush()])


def whole(size: int) -> Iterator[int]:
    while True:
        yield size


def any_size(rng: random.Random) -> Iterator[int]:
    while True:
        yield rng.randint(1, rng.choice((10, 100_000, 3 * MIB)))


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_comes_back_and_pieces_do_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    parts = []
    for _ in range(rng.randrange(6)):
        size = rng.choice((0, 7, 5000, MIB, rng.randrange(2 * MIB)))
        parts.append(rng.choice((rng.randbytes(size), b"some words %d " % seed * (size // 13), bytes(size))))
    data = b"".join(parts)
    made = packed(data, whole(MIB))
    assert packed(data, any_size(rng)) == made
    assert gzip.decompress(made) == data
    assert decompressed(io.BytesIO(made), "gzip").read() == data
    stream = zlib.decompressobj(31)
    assert (stream.decompress(made), stream.eof, stream.unused_data) == (data, True, b"")


def test_what_does_not_shrink_is_stored_and_the_rest_is_not() -> None:
    noise, text = random.Random(1).randbytes(8 * MIB), b"words " * MIB
    made = packed(noise + text + noise, whole(MIB))
    assert len(made) < 2 * len(noise) * 1.001 + len(text) / 20
    done = subprocess.run(["gzip", "-dc"], input=made, capture_output=True, check=True)
    assert done.stdout == noise + text + noise


def test_nothing() -> None:
    made = Gzip().flush()
    assert gzip.decompress(made) == b""
    assert made[4:8] == bytes(4), "a time in the header"
