"""A registry that is killed in the middle of pushes, a hundred times: what it acknowledged is there, all else goes."""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.content import LocalStore
from slipway.oci import Digest
from slipway.registry import Registry
from slipway.state import Database
from slipway.testing.platform import free_port
from slipway.testing.registry import EMPTY, MANIFEST, SECRET, USER, digest_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = 100
_PROGRAM = "import sys; from slipway.testing.registry import run; run(*sys.argv[1:])"
_LOGIN = {"Authorization": "Basic " + b64encode(f"{USER}:{SECRET}".encode()).decode()}


class Pusher(threading.Thread):
    """Pushes one image after another, in chunks and in one piece, until the registry is gone."""

    def __init__(self, port: int, seed: int, token: str) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.name_of = f"n{seed}"
        self.port = port
        self.head = {"Authorization": f"Bearer {token}"}
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            number = 0
            while True:
                self.push(connection, f"{self.name_of}-{number}")
                number += 1
        except (OSError, http.client.HTTPException):
            return  # killed
        finally:
            connection.close()

    def ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes = b"",
        **headers: str,
    ) -> tuple[int, dict[str, str]]:
        given = self.head | {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}

    def blob(self, connection: http.client.HTTPConnection, data: bytes) -> dict[str, object]:
        digest = digest_of(data)
        _, headers = self.ask(connection, "POST", "/v2/lib/x/blobs/uploads/")
        where, half = headers["location"], len(data) // 2
        if self.random.random() < 0.5:
            status, _ = self.ask(connection, "PATCH", where, data[:half], Content_Range=f"0-{half - 1}")
            assert status == 202, status
            data_left = data[half:]
        else:
            data_left = data
        status, _ = self.ask(connection, "PUT", f"{where}?digest={digest}", data_left)
        assert status == 201, status
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    def push(self, connection: http.client.HTTPConnection, tag: str) -> None:
        layers = [self.blob(connection, self.random.randbytes(self.random.choice((500, 50_000, 900_000))))]
        config = {**self.blob(connection, b"{}"), "mediaType": EMPTY}
        value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        data = json.dumps(value).encode()
        status, _ = self.ask(connection, "PUT", f"/v2/lib/x/manifests/{tag}", data, Content_Type=MANIFEST)
        assert status == 201, status
        self.acknowledged[tag] = digest_of(data)


def started(directory: Path, port: int) -> tuple[subprocess.Popen[bytes], str]:
    """The registry, answering, and a token for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(directory), str(port)], stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(
                "GET", "/token?service=slipway-registry&scope=repository:lib/x:pull,push", headers=_LOGIN
            )
            return process, str(json.loads(connection.getresponse().read())["token"])
        except OSError:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
        finally:
            connection.close()


async def verified(directory: Path, acknowledged: dict[str, str]) -> None:
    database = Database.sqlite(directory / "state.db")
    store = LocalStore(directory / "content")
    registry = Registry(database, store)
    store.recover()
    for tag, digest in acknowledged.items():
        stored = await registry.get_manifest("lib/x", tag)
        assert str(stored.digest) == digest
        value = json.loads(stored.data)
        for item in (value["config"], *value["layers"]):
            assert await registry.linked.size("lib/x", Digest.parse(item["digest"])) == item["size"]
    await database.dispose()


async def only_what_is_needed(directory: Path) -> None:
    """Collection leaves what manifests need, and nothing of what was under way."""
    database = Database.sqlite(directory / "state.db")
    store = LocalStore(directory / "content")
    registry = Registry(database, store)
    store.recover()  # as every start does
    for name, _age in store.uploads():
        store.upload(name).discard()
    roots = {item async for page in registry.roots.pages() for item in page}
    store.collect(lambda *_: roots, timedelta(0))
    assert set(store.digests()) == {digest for digest in roots if store.size(digest) is not None} == roots
    assert list(store.fsck()) == []
    left = [
        path for name in ("ingest", "uploads", "leases") for path in (directory / "content" / name).iterdir()
    ]
    assert left == []
    await database.dispose()


def test_what_was_acknowledged_is_there_after_any_kill(tmp_path: Path) -> None:
    chance, acknowledged = random.Random(7), dict[str, str]()
    port = free_port()
    for number in range(KILLS):
        process, token = started(tmp_path, port)
        pushers = [Pusher(port, 4 * number + index, token) for index in range(4)]
        for pusher in pushers:
            pusher.start()
        time.sleep(chance.uniform(0.01, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for pusher in pushers:
            pusher.join()
            acknowledged |= pusher.acknowledged
        if number % 20 == 19:
            asyncio.run(verified(tmp_path, acknowledged))
    assert len(acknowledged) > KILLS
    asyncio.run(only_what_is_needed(tmp_path))
    asyncio.run(verified(tmp_path, acknowledged))
