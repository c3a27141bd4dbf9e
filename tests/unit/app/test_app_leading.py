"""What one server does for all goes on, whatever happens to it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from slipway.app import leading
from slipway.state import Database


async def test_work_that_fails_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "_PAUSE_SECONDS", 0)
    database = Database.sqlite(tmp_path / "state.db")
    begun, again = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise RuntimeError("nobody has thought of this")
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(leading.lead(database, work))
    async with asyncio.timeout(60):
        await again.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await database.dispose()
