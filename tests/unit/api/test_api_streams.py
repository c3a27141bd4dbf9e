"""Answers that go on: their end, and what they hold for who does not read them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from slipway.access import Identity
from slipway.api.platform import create_app, streams
from slipway.api.platform.callers import identity_of
from slipway.api.platform.services import Services
from slipway.base.progress import Progress
from slipway.delivery import AppRef, Instance
from slipway.delivery.engine import LogRecord
from slipway.errors import NotFound, Unavailable

IDS = ("one", "two")


class _Parts:
    """An app with two instances. ``trouble`` is what reading the first one's log ends with."""

    def __init__(self, trouble: Exception) -> None:
        self.trouble = trouble
        self.access = self.apps = self.views = self

    async def require(self, *_: Any) -> None:
        pass

    async def get(self, ref: AppRef) -> AppRef:
        return ref

    async def instances(self, _ref: AppRef) -> list[Instance]:
        return [Instance(name, "web", 1, number, "", True) for number, name in enumerate(IDS, 1)]

    async def logs(
        self, _ref: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        if instance.id == IDS[0]:
            raise self.trouble
        yield LogRecord(instance.id, "web", "stdout", "now", "a line")
        if follow and not isinstance(self.trouble, NotFound):
            await asyncio.Event().wait()


async def read(trouble: Exception, query: str) -> tuple[int, list[dict[str, Any]]]:
    app = create_app(cast(Services, _Parts(trouble)))
    app.dependency_overrides[identity_of] = lambda: Identity("ada", "user", 1)
    path = "/api/v1/projects/demo/apps/shop/logs"
    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [], "http_version": "1.1", "scheme": "http", "root_path": "", "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 1), "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip
    found, statuses = bytearray(), []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])
        found.extend(message.get("body", b""))

    async with asyncio.timeout(60):
        await app(scope, receive, send)
    return statuses[0], [json.loads(line) for line in found.splitlines()]


@pytest.mark.parametrize("query", ["", "follow=true", "tail=5"])
async def test_a_log_that_went_with_its_instance_is_passed_over(query: str) -> None:
    _, events = await read(NotFound("there is no container 'one'"), query)
    assert [event["text"] for event in events] == ["a line"]


@pytest.mark.parametrize("query", ["", "follow=true"])
@pytest.mark.parametrize("trouble", [Unavailable("the cluster is silent"), ValueError("a defect")])
async def test_a_log_that_cannot_be_read_ends_with_the_reason(trouble: Exception, query: str) -> None:
    _, events = await read(trouble, query)
    assert events[-1]["event"] == "error"
    assert ("silent" in events[-1]["message"]) == isinstance(trouble, Unavailable)


@pytest.mark.parametrize("tail", ["-1", str(10**30)])
async def test_a_number_of_lines_that_cannot_be_is_refused(tail: str) -> None:
    assert (await read(NotFound(""), f"tail={tail}"))[0] == 400


async def test_what_nobody_reads_is_left_out_but_for_the_end() -> None:
    told, piece = asyncio.Event(), "x" * 100_000

    async def work(progress: Progress) -> dict[str, Any]:
        for _ in range(10 * streams.MOST_WAITING // len(piece)):
            progress({"event": "output", "text": piece})
        told.set()
        return {"well": True}

    body = aiter(streams.stream(work).body_iterator)
    lines = [await anext(body)]
    await told.wait()
    lines += [line async for line in body]
    events = [json.loads(cast(bytes, line)) for line in lines]
    assert sum(map(len, lines)) < streams.MOST_WAITING * 1.1
    assert "lines left out" in events[-2]["text"]
    assert events[-1] == {"event": "done", "result": {"well": True}}
