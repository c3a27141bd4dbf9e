"""The test cluster's DNS, packet by packet."""

from __future__ import annotations

import socket
import struct

import pytest

from slipway.testing.kubernetes.names_server import Question, answer


def _query(*labels: str, kind: int = 1) -> bytes:
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    return b"\x12\x34\x01\x00" + struct.pack("!HHHH", 1, 0, 0, 0) + name + struct.pack("!HH", kind, 1)


def test_question_is_read() -> None:
    question = Question.parse(_query("Web", "demo", "svc", kind=28))
    assert question.labels == ("web", "demo", "svc")
    assert question.kind == 28


def test_answer_repeats_the_question_and_carries_addresses() -> None:
    query = _query("web", "demo")
    said = answer(query, Question.parse(query), 0, ["10.95.1.2", "10.95.2.3"])
    identity, flags, questions, answers = struct.unpack_from("!HHHH", said)
    assert (identity, questions, answers) == (0x1234, 1, 2)
    assert flags & 0x8100 == 0x8100  # a response, with recursion desired as in the query
    assert said[12 : len(query)] == query[12:]
    assert said.endswith(socket.inet_aton("10.95.2.3"))
    assert len(said) == len(query) + 2 * 16


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"short",
        _query("web")[:-5],
        _query("web").replace(b"\x03web", b"\xc0\x0cweb"),
        b"\x12\x34\x81\x80" + _query("web")[4:],
        _query("web")[:5] + b"\x02" + _query("web")[6:],
    ],
)
def test_packets_that_are_no_query_are_refused(packet: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        Question.parse(packet)
