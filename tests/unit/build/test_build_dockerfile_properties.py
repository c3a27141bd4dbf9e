"""No text, however mangled, makes the language raise anything but its own error."""

from __future__ import annotations

import time
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.build.dockerfile import DockerfileError, parse
from slipway.testing.dockerfiles import carry_out, check

CORPUS = [path.read_text() for path in sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))]
WORDS = [
    "FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "ONBUILD", "HEALTHCHECK", "SHELL", "EXPOSE", "VOLUME", "AS",
    "--from=", "--mount=", "--chmod=", "--link", "type=cache", "target=", ",", "=", "$", "${", "}", ":-", "##", "//",
    "<<", "<<-E", "<<'E'", "E", "\n", "\\\n", " ", "\t", "\r\n", "'", '"', "\\", "[", "]", '["a"]', "#", "# escape=`\n",
    '["\\u0000\\udfff"]',
    "a", "0", "/", "..", "%", "é", "\x00", "\x1b", "\ud800", "\u2028", "\x0b", "\x85", "*", "?", "--", "!", "scratch",
]  # fmt: skip


def survives(text: str | bytes) -> None:
    try:
        carry_out(parse(text))
    except DockerfileError as error:
        check(error)


@given(st.lists(st.sampled_from(WORDS), max_size=40).map("".join))
@example("FROM a\nRUN <<\\\n")
@example("ONBUILD " * 5_000)
@example("FROM a\n" * 10_001)
@example("FROM a\nHEALTHCHECK CMD [")
@example("FROM a\nCOPY <<a <<a /\na\na")
@example("FROM a\nARG a=${a:-${a:-$a}}")
def test_any_words(text: str) -> None:
    survives("FROM a\n" + text)
    survives(text)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    survives(data)
    survives(b"FROM a\nRUN " + data)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    survives("FROM a\nENV " + text)
    survives("FROM a\nCOPY " + text)


@settings(max_examples=300)
@given(st.data())
def test_mutated_files(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(CORPUS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from(WORDS)) + text[end:]
    survives(text)


@given(st.lists(st.sampled_from(CORPUS), min_size=1, max_size=3))
def test_parsing_is_the_same_every_time(texts: list[str]) -> None:
    text = "\n".join(texts)
    try:
        assert parse(text) == parse(text.encode())
    except DockerfileError as error:
        check(error)


def test_large_files_take_time_in_proportion() -> None:
    lines = "FROM a\n" + "RUN echo 'hello world' \\\n  && true\nENV a=$a b=\"c\"\n" * 4_999
    began = time.thread_time()
    found = parse(lines)
    assert len(found.stages[0].instructions) == 9_998
    carry_out(found)
    assert time.thread_time() - began < 10


def test_one_very_long_line() -> None:
    began = time.thread_time()
    many = " ".join(f"a{number}=$x" for number in range(50_000))
    found = parse(f"FROM a\nENV {many}\nARG {many}\nLABEL {many}\nRUN " + "x" * 1_000_000 + " <<E\nE\n")
    assert len(found.stages[0].instructions) == 4
    carry_out(found)
    assert time.thread_time() - began < 10
