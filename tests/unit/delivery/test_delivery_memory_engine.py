"""The in-memory engine obeys the contract, so tests with it say something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from slipway.compose import Project, Service
from slipway.delivery.engine import AppRef
from slipway.testing.engines import EngineSuite
from slipway.testing.memory_engine import Behaviour, MemoryEngine


class MemoryBench:
    def __init__(self) -> None:
        self.engine = MemoryEngine()

    def service(self, name: str, behaviour: Behaviour) -> Service:
        return Service(name, "image", command=(behaviour,))

    def images(self, model: Project) -> Mapping[str, Mapping[str, str]]:
        return {name: {"reference": "image", "digest": "sha256:" + "0" * 64} for name in model.services}

    async def answering(self, app: AppRef, service: str) -> set[str]:
        return set(self.engine.world.routes.get(app, {}).get(service, ()))

    def volumes(self, app: AppRef) -> set[str]:
        return {name for owner, name in self.engine.world.volumes if owner == app}

    def free_port(self) -> int:
        return 9000

    async def reopen(self) -> None:
        self.engine = MemoryEngine(self.engine.world)


class TestMemoryEngine(EngineSuite):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> MemoryBench:
        return MemoryBench()
