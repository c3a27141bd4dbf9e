"""Lines of a stream, each of bounded length."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from slipway.errors import Exhausted


async def lines(stream: aiohttp.StreamReader, longest: int, *, cut: bool) -> AsyncIterator[bytes]:
    """Without their ends. One that is longer is cut into pieces, or raises ``Exhausted``."""
    rest = b""
    async for piece in stream.iter_any():
        *whole, rest = (rest + piece).split(b"\n") if b"\n" in piece else (rest + piece,)
        for line in whole:
            for part in _parts(line, longest, cut):
                yield part
        while len(rest) > longest:
            if not cut:
                raise Exhausted(f"a line of more than {longest} bytes came")
            yield rest[:longest]
            rest = rest[longest:]
    if rest:
        yield rest


def _parts(line: bytes, longest: int, cut: bool) -> list[bytes]:
    if len(line) <= longest:
        return [line]
    if not cut:
        raise Exhausted(f"a line of more than {longest} bytes came")
    return [line[start : start + longest] for start in range(0, len(line), longest)]
