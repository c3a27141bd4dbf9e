"""What tests of builds share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.testing.builds import BuildBench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[BuildBench]:
    """A build room of the test's own, of which nothing is left when the test is over: a killed step, a failed build or
    a hostile one included."""
    found = BuildBench(tmp_path / "bench")
    await found.open()
    yield found
    await found.close()
    assert found.sandboxes.groups() == []
    for part in ("snapshots/active", "content/ingest", "sockets"):
        assert _names(found.directory / part) == [], part
    assert list(found.blobs.leased()) == []
    assert list(found.blobs.fsck()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.exists() else []
