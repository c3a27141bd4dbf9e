"""Commands in containers, and their end: with a runtime that is a script."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from slipway.runtime.commands import started, succeeds

# Takes its time before it says which process it has started, as a runtime on a busy machine does.
_SLOW = """#!/bin/sh
shift 2
pid_file=$1
read _ < "$(dirname "$pid_file")/go"
sleep 1000 &
echo $! > "$pid_file.draft" && mv "$pid_file.draft" "$pid_file"
echo $! > "$(dirname "$pid_file")/started"
wait $!
"""


@pytest.fixture
def runtime(tmp_path: Path) -> list[str]:
    """Starts something once somebody writes to ``go``."""
    script = tmp_path / "runtime"
    script.write_text(_SLOW)
    script.chmod(0o755)
    os.mkfifo(tmp_path / "go")
    return [str(script)]


async def test_what_is_given_up_before_it_began_does_not_go_on(tmp_path: Path, runtime: list[str]) -> None:
    async def left() -> None:
        async with started(runtime, "c", ["sleep"], False, tmp_path):
            pass

    leaving = asyncio.create_task(left())
    await asyncio.to_thread((tmp_path / "go").write_text, "\n")
    await leaving
    assert not Path(f"/proc/{(tmp_path / 'started').read_text().strip()}").exists()
    assert not list(tmp_path.glob("exec-*"))


async def test_a_probe_that_is_too_slow_ends(tmp_path: Path, runtime: list[str]) -> None:
    probing = asyncio.create_task(succeeds(runtime, "c", ["sleep"], 0.01, tmp_path))
    await asyncio.to_thread((tmp_path / "go").write_text, "\n")
    assert not await probing
    assert not Path(f"/proc/{(tmp_path / 'started').read_text().strip()}").exists()
