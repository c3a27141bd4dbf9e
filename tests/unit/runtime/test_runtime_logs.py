"""conmon's log file: parsing, following, rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from slipway.runtime.logs import LogLine, LogParser, _Reader, read_log

TIME = "2024-05-01T10:00:00.000000001+00:00"


def line(text: str, stream: str = "stdout", mark: str = "F") -> bytes:
    return f"{TIME} {stream} {mark} {text}\n".encode()


async def collected(path: Path, tail: int | None = None) -> list[str]:
    return [item.text async for item in read_log(path, follow=lambda: False, tail=tail)]


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"))), st.integers(1, 50))
def test_however_it_is_cut_the_lines_are_the_same(texts: list[str], size: int) -> None:
    data = b"".join(line(text) for text in texts)
    parser = LogParser()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [item.text for piece in pieces for item in parser.feed(piece)] == texts


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    assert all(isinstance(item, LogLine) for item in LogParser().feed(data + b"\n"))


def test_parts_of_a_line_are_joined_by_stream() -> None:
    parser = LogParser()
    parts = (line("a", mark="P"), line("x", "stderr", "P"), line("b"), line("y", "stderr"))
    found = [item for part in parts for item in parser.feed(part)]
    assert [(item.stream, item.text) for item in found] == [("stdout", "ab"), ("stderr", "xy")]


def test_a_line_without_an_end_comes_in_parts() -> None:
    parser, part = LogParser(), "x" * 8192
    found = [item for _ in range(100) for item in parser.feed(line(part, mark="P"))]
    assert found
    assert max(len(item.text) for item in found) <= 300 * 1024


async def test_the_last_words_need_no_end_of_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("one") + line("tw", mark="P") + line("o", mark="P"))
    assert await collected(path) == ["one", "two"]
    assert await collected(path, 1) == ["two"]


async def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(line(str(number)) for number in range(100)))
    assert await collected(path, 3) == ["97", "98", "99"]
    assert await collected(path, 0) == []
    assert len(await collected(path)) == 100


async def test_no_log_is_no_lines(tmp_path: Path) -> None:
    assert await collected(tmp_path / "none") == []


async def test_following_goes_on_in_the_file_that_replaced_a_full_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("before"))
    going = True
    seen: list[str] = []

    async def follow() -> None:
        async for item in read_log(path, follow=lambda: going, tail=None):
            seen.append(item.text)

    following = asyncio.create_task(follow())
    await _until(lambda: seen == ["before"])
    fresh = tmp_path / "log.tmp"
    fresh.write_bytes(line("after"))
    fresh.rename(path)
    await _until(lambda: seen == ["before", "after"])
    with path.open("ab") as handle:
        handle.write(line("last"))
    going = False
    await asyncio.wait_for(following, 60)
    assert seen == ["before", "after", "last"]


def test_what_is_written_just_before_a_file_is_replaced_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("before"))

    class Late(_Reader):
        def _rotated(self) -> bool:
            """conmon is quicker than we are."""
            fresh = tmp_path / "log.tmp"
            if not fresh.exists() and path.read_bytes() == line("before"):
                with path.open("ab") as handle:
                    handle.write(line("late"))
                fresh.write_bytes(line("after"))
                fresh.rename(path)
            return super()._rotated()

    reader = Late(path)
    found = b""
    while data := reader.read():
        found += data
    reader.close()
    assert found == line("before") + line("late") + line("after")


async def _until(done: object) -> None:
    assert callable(done)
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.01)
