"""What is kept of a build's log, and for how long."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.access import Access
from slipway.base.clock import now
from slipway.base.progress import silent
from slipway.build.log import BuildLog
from slipway.build.logs import BuildLogs, FileLogs, TableLogs
from slipway.build.records import BuildRecords
from slipway.errors import NotFound
from slipway.state import Database

Event = dict[str, Any]


class Kept:
    """A writer that can be told to keep nothing."""

    def __init__(self) -> None:
        self.data = b""
        self.is_slow = False
        self.closed = 0

    def write(self, line: bytes) -> bool:
        if not self.is_slow:
            self.data += line
        return not self.is_slow

    async def close(self) -> None:
        self.closed += 1
        self.is_slow = False  # what waited has been stored

    @property
    def texts(self) -> list[str]:
        return [json.loads(line)["text"] for line in self.data.splitlines()]


def said(text: object) -> Event:
    return {"event": "build.log", "build": "b", "service": "s", "text": str(text)}


async def test_the_beginning_and_the_end_of_a_log_are_kept() -> None:
    kept, heard = Kept(), list[object]()
    log = BuildLog(kept, lambda event: heard.append(event["text"]), 8000)
    for number in range(1000):
        log(said(number))
    assert (
        kept.texts[-1]
        == "the log is larger than 8000 bytes (build.log_size): of what follows only the end is kept"
    )
    beginning = kept.texts[:-1]
    await log.close()
    end = kept.texts[len(beginning) + 2 :]
    left_out = 1000 - len(beginning) - len(end)
    assert kept.texts == [
        *map(str, range(len(beginning))), kept.texts[len(beginning)],
        f"{left_out} lines left out: the log is larger than 8000 bytes (build.log_size)",
        *map(str, range(1000 - len(end), 1000)),
    ]  # fmt: skip
    assert len(end) > 20
    assert len(beginning) > 60
    assert heard == [str(number) for number in range(1000)], "who follows it hears everything"
    gap = json.loads(kept.data.splitlines()[len(beginning)])
    assert (gap["event"], gap["build"], gap["service"]) == ("warning", "b", "s")
    log(said("late"))
    assert kept.texts[-1] == "late"


@given(st.lists(st.integers(0, 3000)), st.integers(1, 5000))
async def test_no_log_is_larger(lengths: list[int], size: int) -> None:
    kept = Kept()
    log = BuildLog(kept, silent, size)
    lines = ["x" * length for length in lengths]
    for line in lines:
        log(said(line))
    await log.close()
    # Two lines that say what is missing, and the last one however long.
    assert len(kept.data) <= size + 400 + (len(json.dumps(said(lines[-1]))) if lines else 0)
    assert not lines or kept.texts[-1] == lines[-1]
    real = [text for text in kept.texts if not text.startswith(("the log", *"0123456789"))]
    missing = [int(text.partition(" ")[0]) for text in kept.texts if " lines left out" in text]
    assert len(real) + sum(missing) == len(lines)


async def test_lines_that_come_too_fast_are_counted_where_they_are_missing() -> None:
    kept = Kept()
    log = BuildLog(kept, silent, 1 << 20)
    for number in range(10):
        kept.is_slow = number in (2, 3, 4, 8, 9)
        log(said(number))
    await log.close()
    late = "they could not be stored in time"
    assert kept.texts == ["0", "1", f"3 lines left out: {late}", "5", "6", "7", f"2 lines left out: {late}"]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    found = Database.sqlite(tmp_path / "state.db")
    await found.migrate()
    await Access(found, tmp_path / "keys").create_project("demo")
    yield found
    await found.dispose()


@pytest.fixture(params=["files", "rows"])
def logs(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> BuildLogs:
    return FileLogs(tmp_path / "logs") if request.param == "files" else TableLogs(database, poll=0.01)


async def test_a_log_of_a_small_size_is_read_as_it_was_kept(logs: BuildLogs, database: Database) -> None:
    records = BuildRecords(database, logs, 4000)
    await _add(records, "b")
    log = records.log("b", silent)
    for number in range(500):
        log(said(number))
    await records.end("b", log, {"state": "succeeded"})
    texts = await _texts(records, "b")
    assert texts[0] == "0"
    assert any("lines left out" in text for text in texts)
    assert texts[-1] == "499"


async def test_old_builds_are_forgotten_with_their_logs(
    logs: BuildLogs, database: Database, tmp_path: Path
) -> None:
    records = BuildRecords(database, logs)
    long_ago = now() - timedelta(days=100)
    for number in range(25):
        build = f"old{number}"
        await _add(records, build)
        log = records.log(build, silent)
        log(said("old"))
        await records.end(build, log, {"state": "failed"})
        await records.set(build, finished=long_ago)
    await _add(records, "new")
    log = records.log("new", silent)
    log(said("new"))
    await records.end("new", log, {"state": "succeeded"})
    await _add(records, "runs")
    for path in tmp_path.glob("logs/old*"):
        os.utime(path, (long_ago.timestamp(), long_ago.timestamp()))
    assert await records.prune(timedelta(days=90)) == 25
    assert {row.id for row, _ in await records.list(["demo"])} == {"new", "runs"}
    assert await _texts(records, "new") == ["new"]
    with pytest.raises(NotFound):
        await _texts(records, "old1")
    assert [line async for line in logs.read("old1", _over)] == []
    assert await records.prune(timedelta(days=90)) == 0


async def _add(records: BuildRecords, build: str) -> None:
    await records.add(build, "demo", lambda _: {}, app="", service="", owner="", source="")


async def _over() -> bool:
    return False


async def _texts(records: BuildRecords, build: str) -> list[str]:
    return [str(event["text"]) async for event in records.events(build, lambda: False, follow=False)]
