"""Stages that are only copied from: their last layer is written when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from slipway.build.solve import later
from slipway.errors import Exhausted, Failed
from slipway.testing.builds import BuildBench, Outcome
from slipway.testing.busybox import BUSYBOX

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]
TEXT = """\
FROM busybox AS one
RUN mkdir -p /d/gone /d/kept && echo 1 > /d/gone/f && echo 1 > /d/kept/f
RUN rm -r /d/gone /bin/vi; echo new > /d/kept/f; ln -s kept /d/link; chmod 700 /d; echo ran >> /d/ran
FROM busybox AS two
RUN echo two > /two
FROM scratch AS last
COPY --from=one / /all
COPY --from=two /two /two
"""
SHORT = "FROM busybox AS two\nRUN echo two > /two\nFROM scratch\nCOPY --from=two /two /two"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is: none is written before a test asks for it."""
    monkeypatch.setattr(later, "_REST", 3600)


def facts(made: Outcome) -> list[tuple[object, ...]]:
    """All that a copy keeps: the directories that it makes have the time of the copy."""
    return [
        (item.path, item.kind, item.mode, item.uid, item.gid, item.size, item.target, dict(item.xattrs))
        for item in made.root.walk("")
    ]


def active(bench: BuildBench) -> list[str]:
    return os.listdir(bench.directory / "snapshots" / "active")


@pytest.mark.parametrize("epoch", [None, 1])
async def test_the_copy_does_not_wait_and_is_the_same(bench: BuildBench, epoch: int | None) -> None:
    made = await bench.build(TEXT, epoch=epoch)
    assert len(active(bench)) == 2, "the layers of two stages are still to be written"
    assert made.text("all/d/kept/f") == "new\n"
    assert (made.root.lstat("all/d/gone"), made.root.lstat("all/bin/vi")) == (None, None)
    assert made.text("two") == "two\n"
    await bench.solver.later.settle()
    assert active(bench) == []
    assert (await bench.build(TEXT, epoch=epoch)).ran == []
    # From the snapshots, as they are now, the copies come to the same; with fixed times, to the same bytes.
    again = await bench.build(TEXT, uncached=frozenset({"last"}), epoch=epoch)
    assert len(again.ran) == 2
    assert facts(again) == facts(made)
    if epoch is not None:
        assert again.solved.layers == made.solved.layers


async def test_a_copy_that_came_to_the_same_is_the_one_that_was_there(bench: BuildBench) -> None:
    """Its layer is written while its key is made, and thrown away when that is known."""
    first = await bench.build(SHORT)
    await bench.solver.later.settle()
    again = await bench.build(SHORT, uncached=frozenset({"two"}))
    assert again.ran == ["RUN echo two > /two"]
    assert again.solved.layers == first.solved.layers


async def test_its_key_is_that_of_a_layer_that_was_waited_for(bench: BuildBench) -> None:
    await bench.build(TEXT, target="one")
    made = await bench.build(TEXT)
    assert [name for name in made.ran if "RUN" in name] == ["RUN echo two > /two"]
    await bench.solver.later.settle()
    assert (await bench.build(TEXT, target="two")).ran == []


async def test_who_needs_the_layer_gets_it_at_once(bench: BuildBench) -> None:
    text = (
        "FROM busybox AS one\nRUN echo a > /a\nFROM busybox\nRUN --mount=from=one,source=/a,target=/m cat /m > /b\n"
        "COPY --from=one /a /c"
    )
    made = await asyncio.wait_for(bench.build(text), 60)
    assert (made.text("b"), made.text("c")) == ("a\n", "a\n")
    base = await bench.build("FROM busybox AS one\nRUN echo x > /x\nFROM one\nCOPY --from=one /x /y")
    assert (base.text("x"), base.text("y")) == ("x\n", "x\n")
    assert active(bench) == []


async def test_a_second_build_joins_what_is_not_written_yet(bench: BuildBench) -> None:
    await bench.build(TEXT)
    assert len(active(bench)) == 2
    second = await asyncio.wait_for(bench.build(TEXT), 60)
    assert second.ran == []
    both = await asyncio.gather(*(bench.build(TEXT.replace("echo two", "echo three")) for _ in range(2)))
    ran = sorted(name for made in both for name in made.ran if name.startswith("RUN"))
    assert ran == ["RUN echo three > /two"]


async def test_who_asks_for_a_fresh_one_does_not_get_one_that_is_kept_back(bench: BuildBench) -> None:
    text = SHORT.replace("echo two", "cat /proc/sys/kernel/random/uuid")
    first = await bench.build(text)
    assert len(active(bench)) == 1
    second = await asyncio.wait_for(bench.build(text, uncached=frozenset({"two"})), 60)
    third = await asyncio.wait_for(bench.build(text, no_cache=True), 60)
    assert len({made.text("two") for made in (first, second, third)}) == 3


async def test_a_locked_cache_is_free_before_the_layer_is_written(bench: BuildBench) -> None:
    lock = "RUN --mount=type=cache,target=/c,sharing=locked"
    text = (
        f"FROM busybox AS one\n{lock} echo 1 > /c/f; echo 1 > /one\nFROM busybox AS two\n"
        f"COPY --from=one /one /one\n{lock} cat /c/f > /two\nFROM scratch\nCOPY --from=two /two /two\n"
    )
    assert (await asyncio.wait_for(bench.build(text), 60)).text("two") == "1\n"


async def test_a_layer_that_cannot_be_written_is_said_and_made_again(
    bench: BuildBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise Exhausted("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(bench.snapshots, "commit", full, raising=True)
        made = await bench.build(SHORT)
        await bench.solver.later.settle()
        await asyncio.sleep(0)
    assert made.text("two") == "two\n"
    said = [event["text"] for event in made.events if event["event"] == "warning"]
    assert len(said) == 1
    assert "could not be kept" in said[0]
    assert "the disk is full" in said[0]
    assert active(bench) == []
    again = await bench.build(SHORT)
    assert "RUN echo two > /two" in again.ran


async def test_the_servers_end_leaves_nothing_half_done(bench: BuildBench) -> None:
    await bench.build(TEXT)
    assert len(active(bench)) == 2
    await bench.solver.later.close()
    assert active(bench) == []
    assert list(bench.blobs.leased()) == []
    assert len([name for name in (await bench.build(TEXT)).ran if name.startswith("RUN")]) == 2


async def test_a_step_that_fails_or_a_build_that_is_cancelled_leaves_nothing(bench: BuildBench) -> None:
    with pytest.raises(Failed, match="exit code 3"):
        await bench.build("FROM busybox AS one\nRUN exit 3\nFROM scratch\nCOPY --from=one /a /a")
    text = "FROM busybox AS one\nRUN sleep 60\nFROM scratch\nCOPY --from=one /a /a"
    task = asyncio.create_task(bench.build(text))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert active(bench) == []
