"""Steps of several workers at the same time."""

from __future__ import annotations

import asyncio

from slipway.build.pods.joining import Joining


async def test_one_has_a_step_and_the_next_takes_over() -> None:
    joining, wanted = Joining(), list[str]()
    first, second, third = object(), object(), object()
    assert await joining.begin("p", "k", first, lambda: wanted.append("first"))
    assert await joining.begin("other", "k", second, lambda: None), "another project's is another step"
    assert await joining.begin("p", "k", first, lambda: wanted.append("first")), "its own is its own"
    waits = [
        asyncio.create_task(joining.begin("p", "k", item, lambda: wanted.append("later")))
        for item in (second, third)
    ]
    while joining.waiting < 2:
        await asyncio.sleep(0)
    assert wanted == ["first", "first"]
    joining.end("p", "k", second)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waits), "nobody ends what is another's"
    joining.leave(first)
    assert await asyncio.gather(*waits) == [False, False]
    assert joining.waiting == 0
    assert await joining.begin("p", "k", third, lambda: None)
    joining.end("p", "k", third)
    assert await joining.begin("p", "k", second, lambda: None)
