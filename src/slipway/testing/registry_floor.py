"""A registry that does nothing: what a client takes by itself, whoever it talks to.

It keeps manifests in memory, throws away what is pushed without looking at it, verifies no token, and sends blobs from
the page cache. No registry can be quicker than that with the same client.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from slipway.testing.peers import spawn
from slipway.testing.platform import free_port
from slipway.testing.registry_sides import until_answers

_LENGTH = re.compile(rb"(?i)\ncontent-length: *(\d+)")
_TYPE = re.compile(rb"(?i)\ncontent-type: *([^\r]+)")
_MOST = 1 << 20
_PIECE = 1 << 30


class Floor:
    """Side by side with the registries that are measured."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        directory.mkdir()
        self.port = free_port()
        self._blobs = directory / "blobs"
        program = "import sys; from slipway.testing.registry_floor import serve; serve(*sys.argv[1:])"
        words = [sys.executable, "-c", program, str(self.port), str(self._blobs)]
        self._pid = spawn(stack, words, directory / "log")
        until_answers(self.port)

    def token(self, _repositories: Sequence[str]) -> str:
        return "none"

    def pids(self) -> list[int]:
        return [self._pid]

    def seed_tags(self, repository: str, count: int) -> None:
        raise NotImplementedError

    def has(self, blobs: Path) -> None:
        """What it answers with from now on: a directory of files called by their digests."""
        self._blobs.unlink(missing_ok=True)
        self._blobs.symlink_to(blobs)


def serve(port: str, blobs: str) -> None:
    manifests: dict[bytes, tuple[bytes, bytes]] = {}
    with socket.create_server(("127.0.0.1", int(port)), backlog=128) as listener:
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(connection, Path(blobs), manifests).start()


class _Connection(threading.Thread):
    def __init__(
        self, connection: socket.socket, blobs: Path, manifests: dict[bytes, tuple[bytes, bytes]]
    ) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._blobs = blobs
        self._manifests = manifests

    def run(self) -> None:
        waiting = b""
        with self._connection:
            while True:
                head, end, waiting = waiting.partition(b"\r\n\r\n")
                while not end:
                    more = self._connection.recv(_MOST)
                    if not more:
                        return
                    head, end, waiting = (head + more).partition(b"\r\n\r\n")
                    if not head[:1].isalpha():
                        return  # TLS, which clients try first: they wait ten seconds for an answer
                length = int(found[1]) if (found := _LENGTH.search(head)) else 0
                method, target = head.split(b" ", 2)[:2]
                if b"/manifests/" in target and method == b"PUT":
                    while len(waiting) < length:
                        waiting += self._connection.recv(_MOST)
                    kind = found[1] if (found := _TYPE.search(head)) else b""
                    self._manifests[target] = waiting[:length], kind
                    waiting = waiting[length:]
                    self._answer(b"201 Created")
                    continue
                if b"100-continue" in head:
                    self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                waiting = self._thrown_away(waiting, length)
                self._reply(method, target)

    def _thrown_away(self, waiting: bytes, length: int) -> bytes:
        left = length - len(waiting)
        while left > 0:
            left -= len(self._connection.recv(min(left, _MOST), socket.MSG_TRUNC | socket.MSG_WAITALL))
        return waiting[length:]

    def _reply(self, method: bytes, target: bytes) -> None:
        if b"/manifests/" in target and target in self._manifests:
            data, kind = self._manifests[target]
            body = data if method == b"GET" else b""
            self._answer(b"200 OK", b"Content-Type: " + kind, body=body, length=len(data))
        elif b"/blobs/uploads/" in target:
            status = b"201 Created" if method == b"PUT" else b"202 Accepted"
            self._answer(status, b"Location: /v2/x/blobs/uploads/1", b"Range: 0-0")
        elif b"/blobs/" in target and method == b"GET":
            self._send(self._blobs / target.rpartition(b":")[2].decode())
        elif target == b"/v2/":
            self._answer(b"200 OK")
        else:
            self._answer(b"404 Not Found")

    def _send(self, path: Path) -> None:
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            self._answer(b"200 OK", length=size)
            offset = 0
            while offset < size:
                offset += os.sendfile(self._connection.fileno(), handle.fileno(), offset, _PIECE)

    def _answer(self, status: bytes, *lines: bytes, body: bytes = b"", length: int | None = None) -> None:
        size = len(body) if length is None else length
        head = b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"Content-Length: %d" % size, b"", b""])
        self._connection.sendall(head + body)
