"""What a build can be asked for besides its Dockerfile: times, stages to run again, reasons."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from slipway.testing.builds import BuildBench, Outcome
from slipway.testing.busybox import BUSYBOX

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


TWO_STAGES = """
FROM busybox AS one
RUN cat /proc/sys/kernel/random/uuid > /one
FROM busybox AS two
RUN cat /proc/sys/kernel/random/uuid > /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
"""


def _why(outcome: Outcome) -> dict[str, list[str]]:
    return {
        e["name"]: e["why"] for e in outcome.events if e["event"] == "build.step.done" and not e["cached"]
    }


async def test_one_epoch_makes_one_digest_at_any_time(tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "sub" / "file").write_text("text")
    text = "FROM busybox\nCOPY . /app\nRUN mkdir /made && echo 1 > /made/file\nWORKDIR /work\nENV A=1\n"
    found = []
    for name in ("here", "there"):
        bench = BuildBench(tmp_path / name)
        await bench.open()
        outcome = await bench.build(text, context, epoch=1_700_000_000)
        found.append(outcome.solved)
        entry = outcome.root.lstat("made/file")
        assert entry is not None
        assert entry.mtime == 1_700_000_000
        await bench.close()
        await asyncio.sleep(1.1)  # another second: every time in the layers would differ
        os.utime(context / "sub" / "file")
    assert found[0].config.to_bytes() == found[1].config.to_bytes()
    assert [layer.blob.digest for layer in found[0].layers] == [
        layer.blob.digest for layer in found[1].layers
    ]
    assert found[0].config.created == "2023-11-14T22:13:20.000000Z"


async def test_without_an_epoch_and_with_another_one_nothing_is_shared(bench: BuildBench) -> None:
    text = "FROM busybox\nRUN echo 1 > /file\n"
    assert (await bench.build(text, epoch=1_600_000_000)).ran
    assert (await bench.build(text, epoch=1_700_000_000)).ran
    assert (await bench.build(text)).ran
    assert not (await bench.build(text, epoch=1_600_000_000)).ran


async def test_one_stage_alone_runs_again(bench: BuildBench) -> None:
    first = await bench.build(TWO_STAGES, line="web")
    again = await bench.build(TWO_STAGES, uncached=frozenset({"two"}), line="web")
    assert "RUN cat /proc/sys/kernel/random/uuid > /two" in again.ran
    assert "RUN cat /proc/sys/kernel/random/uuid > /one" not in again.ran
    assert again.root.open("one").read() == first.root.open("one").read()
    assert again.root.open("two").read() != first.root.open("two").read()
    why = _why(again)
    assert why["RUN cat /proc/sys/kernel/random/uuid > /two"] == ["the cache was not to be used"]
    assert why["COPY --from=two /two /"] == ["changed: two"]


async def test_a_miss_says_what_changed(bench: BuildBench, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "a").write_text("1")
    (context / "b").write_text("1")
    text = "FROM busybox\nARG COLOUR\nCOPY . /app/\nRUN echo $COLOUR > /colour\n"
    first = await bench.build(text, context, line="web", args={"COLOUR": "red"})
    assert _why(first)["COPY . /app/"] == ["the first build of this image here"]

    (context / "a").write_text("2")
    (context / "c").write_text("3")
    second = await bench.build(text, context, line="web", args={"COLOUR": "red"})
    assert _why(second)["COPY . /app/"] == ["changed: app/a", "new: app/c"]
    assert len(_why(second)["RUN echo $COLOUR > /colour"]) == 1
    assert _why(second)["RUN echo $COLOUR > /colour"][0].startswith("the image below changed")

    third = await bench.build(text, context, line="web", args={"COLOUR": "blue"})
    assert _why(third) == {
        "RUN echo $COLOUR > /colour": ["the variable COLOUR changed: 'red' -> 'blue'"],
    }
