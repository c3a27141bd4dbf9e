"""Images of ourselves, on servers that have no machine to make their bases on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from slipway.app.own_images import OwnImages
from slipway.build.own_image import DOCKER, PLATFORM
from slipway.build.pods.image import WORKER
from slipway.content import LocalStore
from slipway.errors import Unsupported
from slipway.registry import Registry
from slipway.state import Database


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[OwnImages]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    blobs = LocalStore(tmp_path / "content")
    yield OwnImages(Registry(database, blobs), blobs, bootstraps=False)
    await database.dispose()


def test_servers_fetch_repositories_and_workers_are_small() -> None:
    assert set(PLATFORM.packages) - set(WORKER.packages) == {"git"}
    assert "ca-certificates" in WORKER.packages
    assert PLATFORM.base != WORKER.base


async def test_a_base_that_cannot_be_made_here_is_named(images: OwnImages) -> None:
    for image, base in ((PLATFORM, "library/slipway-base"), (WORKER, "library/slipway-worker-base")):
        with pytest.raises(Unsupported, match=f"{base}:bookworm is not in the registry") as refused:
            await images.ensure(image)
        assert f"slipway image push {base}:bookworm" in refused.value.hint
    with pytest.raises(Unsupported, match="library/slipway-docker:bookworm is not in the registry"):
        await images.ensure_packaged(DOCKER)
