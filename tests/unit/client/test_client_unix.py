"""HTTP over a unix socket: what our own server says, in whatever pieces it comes, and what breaks off."""

from __future__ import annotations

import io
import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from slipway.client.transport import Transport
from slipway.errors import Interrupted, NotFound, SlipwayError, Unavailable

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(path: Path, answer: bytes, pieces: int = 0) -> Iterator[list[bytes]]:
    """Says ``answer`` to one request, in pieces of up to that many bytes; what it was asked."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def work() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                data = b""
                while not _is_whole(data) and (piece := connection.recv(65536)):
                    data += piece
                heard.append(data)
                with suppress(OSError):  # the client has gone: it heard enough
                    for begin in range(0, len(answer), pieces or len(answer) or 1):
                        connection.sendall(answer[begin : begin + (pieces or len(answer))])

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield heard
        finally:
            thread.join(30)


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    if b"Transfer-Encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)


def chunked(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x;name=value\r\n%b\r\n" % (len(part), part) for part in parts)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def transport(path: Path) -> Transport:
    return Transport(f"unix://{path}", token="word", timeout=30)


@pytest.mark.parametrize("pieces", [0, 1, 7])
def test_a_document_with_its_length(tmp_path: Path, pieces: int) -> None:
    body = json.dumps({"a": "ü" * 500}).encode()
    answer = OK + b"content-length: %d\r\n\r\n%b and more" % (len(body), body)
    with server(tmp_path / "s", answer, pieces) as heard:
        assert transport(tmp_path / "s").call("POST", "/x?y", {"b": 1}) == {"a": "ü" * 500}
    head, _, sent = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x?y HTTP/1.1\r\n")
    assert b"Authorization: Bearer word" in head
    assert json.loads(sent) == {"b": 1}


@pytest.mark.parametrize("pieces", [0, 1, 7])
def test_events_come_as_they_are_said(tmp_path: Path, pieces: int) -> None:
    answer = chunked(b'{"n": 1}\n{"n"', b": 2}\n", b'\n{"n": 3}\n') + b"0\r\ntrailer: x\r\n\r\n"
    with server(tmp_path / "s", answer, pieces):
        assert [item["n"] for item in transport(tmp_path / "s").stream("GET", "/")] == [1, 2, 3]


def test_nothing_and_until_the_end(tmp_path: Path) -> None:
    with server(tmp_path / "a", b"HTTP/1.1 204 No Content\r\n\r\n"):
        assert transport(tmp_path / "a").call("DELETE", "/") is None
    with server(tmp_path / "b", b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n[1]"):
        assert transport(tmp_path / "b").call("GET", "/") == [1]


def test_a_file_is_sent_in_chunks(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    with server(tmp_path / "s", OK + b"content-length: 2\r\n\r\n{}") as heard:
        transport(tmp_path / "s").call("POST", "/", io.BytesIO(data))
    body = heard[0].partition(b"\r\n\r\n")[2]
    found = b""
    while not body.startswith(b"0\r\n"):
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    assert found == data


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"content-length: 100\r\n\r\nshort",
        chunked(b"a part"),
        chunked(b"a part")[:-4],
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    ],
)
def test_what_breaks_off_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    with server(tmp_path / "s", answer), pytest.raises(Unavailable, match="broke off"):
        list(transport(tmp_path / "s").pieces("/"))


@pytest.mark.parametrize("cut", [6, 15])
def test_events_that_break_off_are_an_interruption(tmp_path: Path, cut: int) -> None:
    """Whoever shows them need not know how it looks on the wire."""
    with server(tmp_path / "s", chunked(b'{"event": "log"}\n')[:-cut]), pytest.raises(Interrupted):
        list(transport(tmp_path / "s").stream("GET", "/"))


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nhalf", b"HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_http(tmp_path: Path, answer: bytes) -> None:
    with server(tmp_path / "s", answer), pytest.raises(Unavailable, match="does not answer"):
        transport(tmp_path / "s").call("GET", "/")


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer") as caught:
        transport(tmp_path / "none").call("GET", "/")
    assert "slipway up" in caught.value.hint


def test_errors_keep_their_kind(tmp_path: Path) -> None:
    body = json.dumps({"error": {"kind": "not_found", "message": "no", "hint": "look"}}).encode()
    head = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n" % len(body)
    with server(tmp_path / "a", head + body), pytest.raises(NotFound, match="no") as caught:
        transport(tmp_path / "a").call("GET", "/")
    assert caught.value.hint == "look"
    with (
        server(tmp_path / "b", b"HTTP/1.1 502 Bad Gateway\r\n\r\nplain words"),
        pytest.raises(SlipwayError, match="502: plain words"),
    ):
        transport(tmp_path / "b").call("GET", "/")


def test_no_line_break_gets_into_the_head(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"):
        Transport(f"unix://{tmp_path}/none", token="a\r\nX: y").call("GET", "/")
