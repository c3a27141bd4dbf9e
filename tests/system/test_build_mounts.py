"""RUN --mount of every kind, with the real solver and sandbox."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from slipway.build.dockerfile import CacheMount
from slipway.errors import Failed, Invalid, NotFound, SlipwayError
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    found = tmp_path / "context"
    (found / "dir").mkdir(parents=True)
    (found / "file").write_text("one")
    (found / "dir" / "deep").write_text("two")
    (found / "secret").write_text("ignored")
    (found / ".dockerignore").write_text("secret\n")
    return found


# bind


async def test_the_context_is_shown_without_what_is_ignored_and_leaves_no_trace(
    bench: BuildBench, context: Path
) -> None:
    made = await bench.build(
        "FROM busybox\nRUN --mount=target=/src ls -A /src > /list; cat /src/dir/deep > /deep; stat -c %u /src/file",
        context,
    )
    assert made.text("list").split() == [".dockerignore", "dir", "file"]
    assert made.text("deep") == "two"
    assert made.log == "0"
    assert made.root.lstat("src") is None


async def test_a_bind_mount_is_read_only_unless_asked_and_then_thrown_away(
    bench: BuildBench, context: Path
) -> None:
    with pytest.raises(Failed, match="Read-only file system"):
        await bench.build("FROM busybox\nRUN --mount=target=/src touch /src/new", context)
    made = await bench.build(
        "FROM busybox\n"
        "RUN --mount=target=/src,rw echo changed > /src/file && rm -r /src/dir && cat /src/file\n"
        "RUN --mount=target=/src cat /src/file /src/dir/deep",
        context,
    )
    assert made.log == "changed\nonetwo"
    assert (context / "file").read_text() == "one"


async def test_part_of_a_stage_a_file_and_an_image_are_shown(bench: BuildBench, context: Path) -> None:
    made = await bench.build(
        "FROM busybox AS made\nRUN mkdir -p /out/bin && echo tool > /out/bin/tool && ln -s bin /out/link\n"
        "FROM busybox\n"
        "RUN --mount=from=made,source=/out,target=/out cat /out/link/tool\n"
        "RUN --mount=source=dir/deep,target=/one/file cat /one/file; echo\n"
        "RUN --mount=from=busybox,target=/img,rw ls /img/bin/busybox && touch /img/x\n"
        "RUN --mount=from=made,source=/out/link,target=rel cat /rel/tool",
        context,
    )
    assert made.log.splitlines() == ["tool", "two", "/img/bin/busybox", "tool"]


async def test_what_is_shown_is_in_the_key_and_nothing_else(bench: BuildBench, context: Path) -> None:
    text = "FROM busybox\nRUN --mount=source=dir,target=/src cat /src/deep > /copy"
    assert len((await bench.build(text, context)).ran) == 1
    (context / "file").write_text("not shown")
    os.utime(context / "dir" / "deep", (1, 1))
    assert (await bench.build(text, context)).ran == []
    (context / "dir" / "deep").write_text("new")
    assert (await bench.build(text, context)).text("copy") == "new"


async def test_a_stage_may_get_another_name(bench: BuildBench) -> None:
    text = "FROM busybox AS {0}\nRUN echo x > /x\nFROM busybox\nRUN --mount=from={0},target=/s cat /s/x > /y"
    assert len((await bench.build(text.format("one"))).ran) == 2
    assert (await bench.build(text.format("two"))).ran == []


async def test_a_file_is_not_a_directory_with_a_file_of_its_name(bench: BuildBench, context: Path) -> None:
    text = "FROM busybox\nRUN --mount=source=file,target=/m if test -d /m; then echo dir; else echo file; fi > /seen"
    assert (await bench.build(text, context)).text("seen") == "file\n"
    (context / "file").rename(context / "moved")
    (context / "file").mkdir()
    (context / "moved").rename(context / "file" / "file")
    assert (await bench.build(text, context)).text("seen") == "dir\n"


async def test_what_a_directory_of_a_stage_looks_like_is_in_the_key(bench: BuildBench) -> None:
    text = (
        "FROM busybox AS one\nRUN mkdir -m {} /d; touch /d/f\n"
        "FROM busybox\nRUN --mount=from=one,source=/d,target=/m stat -c %a /m > /seen"
    )
    assert (await bench.build(text.format(700))).text("seen") == "700\n"
    assert (await bench.build(text.format(750))).text("seen") == "750\n"


async def test_a_context_that_changes_before_a_step_runs_is_in_no_result(
    bench: BuildBench, context: Path
) -> None:
    """The step waits for a cache when its key is made already: what it sees then must be what the key says."""
    text = (
        "FROM busybox\nRUN --mount=target=/s --mount=type=cache,target=/c,sharing=locked cat /s/file > /seen"
    )
    async with bench.caches.use("", CacheMount("/c", "/c", sharing="locked")):
        build = asyncio.create_task(bench.build(text, context))
        while not bench.caches._changed._waiters:
            await asyncio.sleep(0)
        (context / "file").write_text("other")
    with pytest.raises(Invalid, match="changed while it was read"):
        await build
    assert (await bench.build(text, context)).text("seen") == "other"
    (context / "file").write_text("one")
    assert (await bench.build(text, context)).text("seen") == "one"


async def test_a_source_that_is_not_there_is_named(bench: BuildBench, context: Path) -> None:
    with pytest.raises(NotFound, match=r"Dockerfile:2.*no 'none' to be mounted"):
        await bench.build("FROM busybox\nRUN --mount=source=none,target=/s true", context)
    with pytest.raises(NotFound, match=r"no '/none'"):
        await bench.build("FROM busybox\nRUN --mount=from=busybox,source=/none,target=/s true", context)


async def test_a_source_cannot_lead_outside(bench: BuildBench, context: Path) -> None:
    (context / "up").symlink_to("../../../../../../etc")
    (context / "abs").symlink_to("/etc/hostname")
    for source in ("up", "abs", "../..", "dir/../../../etc/shadow"):
        try:
            made = await bench.build(
                f"FROM busybox\nRUN --mount=source={source},target=/s ls -d /s/passwd /s/shadow; cat /s; true",
                context,
            )
        except SlipwayError:
            continue
        assert "root:" not in made.log
        assert "/s/shadow\n" not in made.log


# tmpfs


async def test_a_tmpfs_is_empty_limited_and_gone(bench: BuildBench) -> None:
    made = await bench.build(
        "FROM busybox\nRUN echo old > /tmp/old\n"
        "RUN --mount=type=tmpfs,target=/tmp,size=1m ls -A /tmp | wc -l; stat -c %a /tmp;"
        " dd if=/dev/zero of=/tmp/x bs=64k count=64 2>&1 | grep -c 'No space'; touch /tmp/left"
    )
    assert made.log.splitlines() == ["0", "1777", "1"]
    assert made.paths("tmp") == ["tmp/old"]


# cache


async def test_a_cache_is_kept_between_builds_and_is_in_no_layer(bench: BuildBench) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c echo {0} >> /c/seen; cat /c/seen | wc -l"
    assert (await bench.build(text.format(1), project="a")).log == "1"
    made = await bench.build(text.format(2), project="a")
    assert made.log == "2"
    assert made.root.lstat("c") is None
    assert (await bench.build(text.format(2), project="b")).log == "1"  # another project sees nothing of it
    (usage,) = [item for item in bench.caches.usage() if item.scope == "a"]
    assert (usage.id, usage.size > 0) == ("/c", True)
    assert await bench.caches.remove("a", "/c")
    assert (await bench.build(text.format(3), project="a")).log == "1"


async def test_a_cache_has_its_owner_and_begins_with_a_stages_files(bench: BuildBench) -> None:
    made = await bench.build(
        "FROM busybox AS seed\nRUN mkdir /s && echo seed > /s/file\nFROM busybox\nUSER 7:8\n"
        "RUN --mount=type=cache,target=/c,id=x,uid=7,gid=8,mode=0750,from=seed,source=/s"
        " stat -c '%u %g %a' /c; cat /c/file; touch /c/mine; stat -c %u /c/mine"
    )
    assert made.log.splitlines() == ["7 8 750", "seed", "7"]


async def test_a_cache_inside_a_bind_mount(bench: BuildBench, context: Path) -> None:
    made = await bench.build(
        "FROM busybox\nWORKDIR /src\n"
        "RUN --mount=target=.,rw --mount=type=cache,target=node_modules echo x > node_modules/x; ls",
        context,
    )
    assert made.log.split() == ["dir", "file", "node_modules"]
    with pytest.raises(SlipwayError, match="lies in another mount and cannot be made there"):
        await bench.build(
            "FROM busybox\nRUN --mount=target=/s --mount=type=cache,target=/s/none true", context
        )


@pytest.mark.parametrize(("sharing", "together"), [("shared", True), ("locked", False), ("private", False)])
async def test_how_a_cache_is_shared(bench: BuildBench, sharing: str, together: bool) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=cache,target=/c,sharing={0} touch /c/{1};"
        " n=0; while test $n -lt 15; do ls /c; n=$((n+1)); sleep 0.1; done; rm /c/{1}"
    )
    logs = await asyncio.gather(*(bench.build(text.format(sharing, name)) for name in "ab"))
    saw_both = any({"a", "b"} <= set(made.log.split()) for made in logs)
    assert saw_both == together


async def test_a_step_may_have_the_same_cache_alone_twice(bench: BuildBench) -> None:
    mounts = " ".join(f"--mount=type=cache,id=c,target=/{name},sharing=locked" for name in "ab")
    async with asyncio.timeout(60):
        made = await bench.build(f"FROM busybox\nRUN {mounts} touch /a/x; ls /b > /seen")
    assert made.text("seen") == "x\n"


async def test_steps_that_want_the_same_caches_alone_do_not_wait_for_each_other(bench: BuildBench) -> None:
    """Whoever waits for the one holds nothing that the other may have to wait for."""
    mounts = " ".join(f"--mount=type=cache,id={name},target=/{name},sharing=locked" for name in "ba")
    async with asyncio.timeout(60):
        async with bench.caches.use("", CacheMount("/a", "a", sharing="locked")):
            build = asyncio.create_task(bench.build(f"FROM busybox\nRUN {mounts} touch /done"))
            while not bench.caches._changed._waiters:
                await asyncio.sleep(0)
            async with bench.caches.use("", CacheMount("/b", "b", sharing="locked")):
                pass
        assert (await build).root.lstat("done") is not None


async def test_a_step_cannot_leave_its_cache(bench: BuildBench) -> None:
    """Links in a cache mean the container's own paths, whichever step made them."""
    await bench.build(
        "FROM busybox\nRUN --mount=type=cache,target=/c ln -s /etc /c/etc; ln -s ../../../.. /c/up;"
        " ln -sfn /etc /c/sub; mkfifo /c/fifo; mknod /c/disk b 8 0 || true"
    )
    made = await bench.build(
        "FROM busybox\nRUN echo inside > /etc/mine\n"
        "RUN --mount=type=cache,target=/c cat /c/etc/mine; cat /c/etc/shadow /c/up/etc/shadow 2>&1; ls /c/up;"
        " head -c1 /c/disk | wc -c"
    )
    assert made.log.startswith("inside")
    assert "root:" not in made.log
    with pytest.raises(
        SlipwayError
    ):  # a target through the link stays inside the root: it is no directory there
        await bench.build(
            "FROM busybox\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/sub/x/y false"
        )
    assert not Path("/etc/x").exists()


# secret


async def test_a_secret_is_a_file_or_a_variable_and_nowhere_else(bench: BuildBench) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=secret,id=key wc -c < /run/secrets/key; stat -c '%a %u' /run/secrets/key;"
        " echo x > /run/secrets/key; cp /run/secrets/key /dev/null\n"
        "RUN --mount=type=secret,id=key,env=KEY --mount=type=secret,id=key,target=/k,mode=0444,uid=5"
        " echo ${#KEY}; stat -c '%a %u' /k; env | grep -c KEY\n"
        "RUN --mount=type=secret,id=none test ! -e /run/secrets/none"
    )
    made = await bench.build(text, secrets={"key": b"s3cr3t-value"})
    assert made.log.splitlines()[:2] == ["12", "400 0"]
    assert "12\n444 5\n1" in made.log
    assert "Read-only" in made.log or "can't create" in made.log
    assert [path for path in made.paths() if "secret" in path or path in ("k", "run")] == []
    await bench.database.dispose()
    for path in bench.directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"s3cr3t-value" not in path.read_bytes(), path


async def test_a_secret_is_not_part_of_the_key_but_whose_it_is(bench: BuildBench) -> None:
    text = "FROM busybox\nRUN --mount=type=secret,id=key,required cat /run/secrets/key > /copy"
    assert (await bench.build(text, project="a", secrets={"key": b"1"})).text("copy") == "1"
    assert (await bench.build(text, project="a", secrets={"key": b"2"})).ran == []
    with pytest.raises(Invalid, match="needs the secret 'key'"):
        await bench.build(text, project="b")


# heredocs, and all together


async def test_a_heredoc_with_an_interpreter(bench: BuildBench) -> None:
    made = await bench.build(
        "FROM busybox\nRUN <<EOF\n#!/bin/cat\nsecond line\nEOF\nRUN <<EOF\n#!/bin/sh\necho $0 > /zero\nEOF"
    )
    assert made.log == "#!/bin/cat\nsecond line"
    assert made.text("zero").startswith("/dev/pipes/")
    assert made.root.lstat("dev/pipes") is None


async def test_mount_points_made_for_a_step_are_not_in_its_layer(bench: BuildBench) -> None:
    made = await bench.build(
        "FROM busybox\nRUN ln -s /elsewhere /link; mkdir /elsewhere\n"
        "RUN --mount=type=tmpfs,target=/link/a/b --mount=type=secret,id=s,target=/x/y/z"
        " ls -d /elsewhere/a/b && touch /made",
        secrets={"s": b"1"},
    )
    assert made.log == "/elsewhere/a/b"
    assert made.paths("elsewhere") == []
    assert [path for path in made.paths() if path.startswith("x")] == []
    entry = made.root.lstat("made")
    assert entry is not None
    assert stat.S_IMODE(entry.mode) == 0o644


async def test_a_killed_step_leaves_no_mount(bench: BuildBench, context: Path) -> None:
    task = asyncio.create_task(
        bench.build(
            "FROM busybox\nRUN --mount=target=/s,rw --mount=type=cache,target=/c,sharing=locked"
            " --mount=type=tmpfs,target=/t --mount=type=secret,id=x touch /c/up; sleep 100",
            context, secrets={"x": b"1"},
        )
    )  # fmt: skip
    while not list((bench.directory / "cache-mounts").glob("*/0/up")):
        assert not task.done(), task
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    made = await asyncio.wait_for(
        bench.build("FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked ls /c"), 60
    )
    assert made.log == "up"
