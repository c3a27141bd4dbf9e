"""The bench of ``spread_bench`` as a fixture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from spread_bench import Bench, opened_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    found = await opened_bench(tmp_path)
    yield found
    await found.spread.aclose()
    await found.database.dispose()
