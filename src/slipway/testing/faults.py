"""A server in front of another that fails on demand: requests are cut, refused or lose their answer."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["pass", "500", "cut", "half", "deaf"]
_BODY = b"<Error><Code>InternalError</Code></Error>"
_LINE = re.compile(rb"(GET|PUT|POST|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")


@dataclass(slots=True)
class Faults:
    """``decide`` is asked for each request (method, path):

    ``pass`` it on, answer ``500``, ``cut`` the connection before it arrives, ``half`` way through the answer, or be
    ``deaf``: let it be done and cut before the answer. ``seen`` counts the faults.
    """

    address: str
    decide: Callable[[str, str], Fault] = lambda _method, _path: "pass"
    seen: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def faulty(target: str) -> Iterator[Faults]:
    """In front of ``target`` (``http://HOST:PORT``). One request a connection."""
    parts = urlsplit(target)
    assert parts.hostname is not None
    assert parts.port is not None
    upstream = (parts.hostname, parts.port)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        faults = Faults(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_serve, args=(client, upstream, faults), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield faults
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(client: socket.socket, upstream: tuple[str, int], faults: Faults) -> None:
    with client, suppress(OSError):
        head, rest = _head(client)
        match = _LINE.match(head)
        if match is None:
            return
        method, path = match[1].decode(), match[2].decode()
        faults.requests.append((method, path))
        fault = faults.decide(method, path)
        faults.seen += fault != "pass"
        if fault == "cut":
            return
        body = _body(client, head, rest)
        if fault == "500":
            said = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(_BODY)}\r\nConnection: close\r\n\r\n"
            client.sendall(said.encode() + _BODY)
            return
        with socket.create_connection(upstream) as server:
            server.sendall(
                re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n" + body
            )
            answer = b"".join(iter(lambda: server.recv(1 << 20), b""))
        if fault == "deaf":
            return
        answer = answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        client.sendall(answer[: len(answer) // 2] if fault == "half" else answer)


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _body(client: socket.socket, head: bytes, rest: bytes) -> bytes:
    match = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    length = int(match[1]) if match else 0
    pieces, size = [rest], len(rest)
    while size < length and (piece := client.recv(1 << 20)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
