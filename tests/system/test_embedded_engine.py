"""The embedded engine passes the suite of all engines, with real containers, networks and HAProxy."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.access import Access
from slipway.app.settings import Settings
from slipway.base.clock import iso, now
from slipway.compose import HealthTest, Project, Service, VolumeMount
from slipway.delivery.engine import AppRef
from slipway.delivery.instance_engine import InstanceEngine
from slipway.engines.embedded import EmbeddedEngine
from slipway.errors import Conflict
from slipway.layers import import_tar
from slipway.oci import Digest, ImageConfig, Platform
from slipway.registry import Registry
from slipway.state import Database
from slipway.testing.busybox import BUSYBOX, busybox_tar
from slipway.testing.containers import MachineBench, machine_settings, opened
from slipway.testing.engines import APP, PORT, EngineSuite, make_release, start, web
from slipway.testing.memory_engine import LAST_WORDS, Behaviour
from slipway.testing.platform import free_port

POOL = "10.92.0.0/16"
COMMANDS: dict[Behaviour, str] = {
    "serve": f"mkdir -p /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p {PORT} -h /tmp/www",
    "idle": "exec sleep 1000",
    "job": "true",
    "fail": f"echo {LAST_WORDS}; exit 3",
    "deaf": "exec sleep 1000",
}
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


class EmbeddedBench(MachineBench):
    """An engine over a machine of its own; a container says its id, which is its host name, to whoever asks."""

    engine: InstanceEngine

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.database = Database.sqlite(settings.data / "state.db")
        self.digest: Digest | None = None

    async def open(self) -> None:
        await super().open()
        registry = Registry(self.database, self.machine.blobs)
        await self.database.migrate()
        if self.digest is None:
            await Access(self.database, self.settings.data / "keys").create_project("library", public=True)
            layer = import_tar(self.machine.blobs, io.BytesIO(busybox_tar()))
            config = ImageConfig(
                Platform.host(),
                (layer.diff_id,),
                {"Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/tmp"},
                created=iso(now()),
            )
            stored = await registry.store_image("library/busybox", ["1"], config, [layer.descriptor])
            self.digest = stored.digest
        port = int(self.settings["apps.listen"].rpartition(":")[2])
        self.engine = EmbeddedEngine(
            self.machine.containers, self.machine.networks, self.machine.balancer, self.machine.snapshots, registry,
            self.settings.data / "volumes", "localhost", port,
        )  # fmt: skip

    async def reopen(self) -> None:
        await self.close()
        await self.open()

    def service(self, name: str, behaviour: Behaviour) -> Service:
        return Service(
            name,
            "busybox",
            entrypoint=("/bin/sh", "-c"),
            command=(COMMANDS[behaviour],),
            stop_grace_period=0.2,
        )

    def images(self, model: Project) -> Mapping[str, Mapping[str, str]]:
        return {
            name: {"reference": "library/busybox:1", "digest": str(self.digest)} for name in model.services
        }

    async def answering(self, app: AppRef, service: str) -> set[str]:
        host = f"{service}.{app.name}.{app.project}.localhost"
        return {answer for _ in range(8) if (answer := await asyncio.to_thread(self._ask, host))}

    def _ask(self, host: str) -> str:
        request = urllib.request.Request(f"http://{self.settings['apps.listen']}/", headers={"Host": host})
        with suppress(urllib.error.URLError, OSError):
            with urllib.request.urlopen(request, timeout=60) as answer:
                text: str = answer.read().decode().strip()
                return text
        return ""

    def volumes(self, app: AppRef) -> set[str]:
        start = f"{app.project}_{app.name}_"
        found = (self.settings.data / "volumes").glob(f"{start}*")
        return {path.name.removeprefix(start) for path in found}

    def free_port(self) -> int:
        return free_port()

    async def run(self, service: Service, script: str) -> str:
        """The output of ``script`` in a container of ``service``."""
        await start(self, replace(service, command=(f"({script}) 2>&1; exec sleep 1000",)))
        (instance,) = [item for item in await self.engine.instances(APP) if item.service == service.name]
        lines = [line.text async for line in self.engine.logs(APP, instance, follow=False, tail=None)]
        return "\n".join(lines)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[EmbeddedBench]:
    found = EmbeddedBench(machine_settings(tmp_path, POOL))
    try:
        async with opened(found):
            yield found
    finally:
        await found.database.dispose()


class TestEmbeddedEngine(EngineSuite):
    """The suite, and what only this engine promises."""

    async def test_compose_overrides_the_image(self, bench: EmbeddedBench) -> None:
        service = replace(
            bench.service("web", "idle"), environment={"FROM": "compose", "B": "2"}, user="1234:5", working_dir="/bin",
            hostname="box",
        )  # fmt: skip
        shown = await bench.run(service, "id -u; id -g; pwd; hostname; env")
        assert shown.splitlines()[:4] == ["1234", "5", "/bin", "box"]
        assert {"FROM=compose", "B=2", "PATH=/bin"} <= set(shown.splitlines())

    async def test_services_find_each_other_by_name(self, bench: EmbeddedBench) -> None:
        (db,) = await start(bench, bench.service("db", "idle"))
        for name in ("db", "db-1"):
            shown = await bench.run(bench.service(f"see-{name}", "idle"), f"nslookup {name}")
            assert f"Address: {db.address}" in shown.replace("Address 1: ", "Address: ")

    async def test_a_volume_outlives_its_instances(self, bench: EmbeddedBench) -> None:
        service = replace(bench.service("store", "idle"), volumes=(VolumeMount("/data", "volume", "data"),))
        await bench.run(service, "echo kept > /data/file")
        for instance in await bench.engine.instances(APP):
            await bench.engine.stop(APP, instance)
            await bench.engine.remove(APP, instance)
        assert await bench.run(service, "cat /data/file") == "kept"

    async def test_a_port_of_another_program_is_refused_before_anything_starts(
        self, bench: EmbeddedBench
    ) -> None:
        with socket.socket() as rival:
            rival.bind(("127.0.0.1", 0))
            rival.listen()
            release = make_release(bench, web(bench, published=rival.getsockname()[1]))
            with pytest.raises(Conflict, match="in use"):
                await bench.engine.prepare(APP, release)

    async def test_work_that_is_done_at_once_is_done(self, bench: EmbeddedBench) -> None:
        """Also where it is tried again on failure, and where nothing would ever find it healthy."""
        job = bench.service("job", "job")
        check = HealthTest(("CMD", "/bin/false"))
        for number, service in enumerate(
            (replace(job, restart="on-failure:3"), replace(job, healthcheck=check)), 1
        ):
            (instance,) = await start(bench, service, number=number)
            assert (await bench.engine.ready(APP, instance, service, 60)).exit_code == 0

    async def test_a_published_port_answers_beside_the_name(self, bench: EmbeddedBench) -> None:
        port = bench.free_port()
        service = web(bench, published=port)
        (instance,) = await start(bench, service)
        await bench.engine.publish(APP, {"web": (service, [instance])})
        with await asyncio.to_thread(
            urllib.request.urlopen, f"http://127.0.0.1:{port}/", timeout=60
        ) as answer:
            assert answer.read().decode().strip() == instance.id
        assert bench.engine.urls(APP, service)[1] == f"tcp://127.0.0.1:{port}"
