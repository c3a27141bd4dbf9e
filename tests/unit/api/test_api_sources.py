"""What callers send to be built or delivered."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from slipway import wire
from slipway.access import Identity
from slipway.api.platform.services import Services
from slipway.api.platform.sources import opened, receive


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could make devices")
async def test_no_device_of_the_host_comes_with_an_upload(tmp_path: Path) -> None:
    """Who may deliver would read it, as an env_file for one."""
    parts, ada = cast(Services, SimpleNamespace(uploads=tmp_path)), Identity("ada", "user", 1)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind in (("disk", tarfile.BLKTYPE), ("memory", tarfile.CHRTYPE), ("file", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.devmajor, entry.devminor = kind, 1, 5
            tar.addfile(entry)

    async def chunks() -> AsyncIterator[bytes]:
        yield buffer.getvalue()

    upload = await receive(parts, ada, chunks())
    async with opened(parts, ada, wire.Source(upload=upload)) as source:
        assert os.listdir(source.directory) == ["file"]
    assert list(tmp_path.iterdir()) == []
