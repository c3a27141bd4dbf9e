"""HTTP/1.1 with our own server over its unix socket.

Most commands do one request. The standard library's client parses mail, knows TLS and calendars, and takes a third of
the time that such a command needs to start; this is the little of HTTP that both ends of the socket speak.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from slipway.client.connection import Answer

_MAX_LINE = 65536
_PIECE = 1024 * 1024
_SIZE = re.compile(r"[0-9a-fA-F]{1,15}")


class UnixConnection:
    """One request and its answer. Raises ``ConnectionError`` for what is no HTTP or breaks off."""

    def __init__(self, path: str, timeout: float | None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        self._path = path

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
    ) -> Answer:
        fields = {"Host": "localhost", "Connection": "close", **headers}
        if body is None or isinstance(body, bytes):
            if body is not None or method in ("POST", "PUT"):
                fields["Content-Length"] = str(len(body or b""))
            head = _head(method, path, fields)
            self._socket.connect(self._path)
            self._socket.sendall(head + (body or b""))
        else:
            head = _head(method, path, fields | {"Transfer-Encoding": "chunked"})
            self._socket.connect(self._path)
            self._socket.sendall(head)
            self._send(body)
        return self._answer()

    def _send(self, body: IO[bytes]) -> None:
        with suppress(BrokenPipeError):  # who wants no more has said why
            while piece := body.read(_PIECE):
                self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            self._socket.sendall(b"0\r\n\r\n")

    def _answer(self) -> Answer:
        stream = self._socket.makefile("rb")
        status = 100
        while status == 100:
            words = _line(stream).split(" ", 2)
            if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
                raise ConnectionError("the answer is no HTTP")
            status = int(words[1])
            fields = {}
            while line := _line(stream):
                name, _, value = line.partition(":")
                fields[name.strip().lower()] = value.strip()
        chunked = fields.get("transfer-encoding", "").lower() == "chunked"
        length = fields.get("content-length", "")
        left = int(length) if length.isdigit() else None
        if status in (204, 304):
            left = 0
        body = io.BufferedReader(_Chunks(stream) if chunked else _Length(stream, left), _MAX_LINE)
        return Answer(status, words[2] if len(words) > 2 else "", body)

    def close(self) -> None:
        self._socket.close()


def _head(method: str, path: str, fields: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line break in a header")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _line(stream: IO[bytes]) -> str:
    line = stream.readline(_MAX_LINE)
    if not line.endswith(b"\n"):
        raise ConnectionError("the answer broke off" if len(line) < _MAX_LINE else "a header is too long")
    return line.rstrip(b"\r\n").decode("latin-1")


class _Length(io.RawIOBase):
    """So many bytes, or all there are until the end."""

    def __init__(self, stream: IO[bytes], left: int | None) -> None:
        self._stream = stream
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        data = _some(self._stream, wanted) if wanted else b""
        if self._left is not None:
            if wanted and not data:
                raise ConnectionError("the answer broke off")
            self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class _Chunks(io.RawIOBase):
    """A body in chunks, each with its size in front; it is whole only with the empty one at the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left and not self._ended:
            self._begin()
        data = _some(self._stream, min(len(buffer), self._left)) if self._left else b""
        if self._left and not data:
            raise ConnectionError("the answer broke off")
        self._left -= len(data)
        if data and not self._left:
            _line(self._stream)
        buffer[: len(data)] = data
        return len(data)

    def _begin(self) -> None:
        size = _line(self._stream).partition(";")[0].strip()
        if not _SIZE.fullmatch(size):
            raise ConnectionError("a chunk of the answer has no size")
        self._left = int(size, 16)
        if not self._left:
            self._ended = True
            while _line(self._stream):
                pass


def _some(stream: IO[bytes], size: int) -> bytes:
    """What has come, up to ``size`` bytes; waits for at least one."""
    assert isinstance(stream, io.BufferedReader)
    return stream.read1(size)
