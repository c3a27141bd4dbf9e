"""Attacks on a builder that have worked elsewhere, tried here. The sandbox itself: test_build_sandbox.py."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.build.sandbox import ID_COUNT, NestedSandboxes, Sandboxes
from slipway.errors import Failed, SlipwayError
from slipway.network import BuildNetwork, Networks
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX, busybox_tar

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of the host's with a file in it that must stay as it is."""
    found = tmp_path / "victim"
    found.mkdir()
    (found / "file").write_text("precious")
    return found


def _unharmed(victim: Path) -> bool:
    return sorted(os.listdir(victim)) == ["file"] and (victim / "file").read_text() == "precious"


# Mounts


async def test_the_removal_of_a_mount_point_follows_no_link(bench: BuildBench, victim: Path) -> None:
    """A step replaces the directory that its mount point was made in by a link to the host's path."""
    made = await bench.build(
        f"FROM busybox\nRUN --mount=type=tmpfs,target=/trap/file mkdir -p /x && mv /trap /gone; "
        f"rm -rf /trap; ln -s {victim} /trap; true\n"
        f"RUN --mount=type=tmpfs,target=/other/file rm -rf /other; ln -s {victim} /other; true\n"
    )
    assert _unharmed(victim)
    assert made.root.read("trap/file") is None


async def test_a_mount_point_that_is_a_link_leads_nowhere_outside(bench: BuildBench, victim: Path) -> None:
    up = "../../../.." + str(victim)
    bench.keep("linked", _tar(("evil", tarfile.SYMTYPE, str(victim)), ("up", tarfile.SYMTYPE, up)), {})
    for target in ("/evil/sub", "/up/sub", "/evil/file"):
        run = f'RUN --mount=type=tmpfs,target={target} ["/b", "true"]\n'
        with suppress(SlipwayError):
            await bench.build(f"FROM linked\nCOPY --from=busybox /bin/busybox /b\n{run}")
        assert _unharmed(victim)


async def test_the_source_of_a_mount_cannot_climb_out(bench: BuildBench, victim: Path) -> None:
    bench.keep("linked", _tar(("evil", tarfile.SYMTYPE, str(victim)), ("root", tarfile.SYMTYPE, "/")), {})
    for source in ("/evil", "../../../.." + str(victim), "/root/../.." + str(victim), "/evil/file"):
        run = f"RUN --mount=from=linked,source={source},target=/m,rw rm -rf /m/file; cat /m/file > /seen\n"
        with pytest.raises(SlipwayError):
            await bench.build(f"FROM busybox\n{run}")
        assert _unharmed(victim)


async def test_two_steps_race_over_a_path_in_a_shared_cache(bench: BuildBench, victim: Path) -> None:
    """One swaps a directory and a link to the host's path while others have mount points made below it."""
    shared = "RUN --mount=type=cache,id=c,target=/c"
    loop = f"rm -rf /c/d; mkdir /c/d; rm -rf /c/d; ln -s {victim} /c/d"
    swap = (
        f"FROM busybox AS swap\n{shared} i=0; while [ $i -lt 400 ]; do {loop}; i=$((i+1)); done; "
        "rm -rf /c/d; mkdir /c/d; touch /a\n"
    )
    mount = (
        f"FROM busybox AS m{{n}}\n{shared} --mount=type=tmpfs,target=/c/d/s{{n}} "
        "touch /c/d/s{n}/x; touch /b{n}; true\n"
    )
    for round_ in range(3):
        stages = [mount.replace("{n}", str(number)) for number in range(6)]
        copies = "".join(f"COPY --from=m{number} /b{number} /\n" for number in range(6))
        text = f"{swap}{''.join(stages)}FROM busybox\nLABEL round={round_}\nCOPY --from=swap /a /\n{copies}"
        with suppress(SlipwayError):  # a mount point may be gone at the wrong moment
            await bench.build(text, no_cache=True)
        assert _unharmed(victim)


# Paths of a Dockerfile


@pytest.mark.parametrize(
    "path", ["/proc/self/fd/7", "/proc/1/root", "/proc/self/cwd/../../..", "/proc/self/fd/../../1/cwd"]
)
async def test_a_working_directory_in_proc_is_the_containers_own(
    bench: BuildBench, victim: Path, path: str
) -> None:
    run = f"RUN ls -a / > /listing; cat {victim}/file > /seen; true\n"
    try:
        made = await bench.build(f"FROM busybox\nWORKDIR {path}\n{run}")
    except SlipwayError:
        return  # it may be refused, too
    assert made.root.read("seen") in (b"", None)
    assert "bin" in made.text("listing").split()


async def test_files_over_the_systems_directories_change_no_worker(bench: BuildBench, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "evil").write_text("#!/bin/sh\ntouch /pwned\n")
    (context / "evil").chmod(0o755)
    made = await bench.build(
        "FROM busybox\n"
        "COPY evil /proc/self/exe\nCOPY evil /dev/null\nCOPY evil /sbin/init\nCOPY evil /usr/bin/python3\n"
        "COPY evil /etc/resolv.conf\n"
        "RUN true > /dev/null; test -c /dev/null && grep -q . /proc/self/status && echo fine > /fine\n",
        context,
    )
    assert made.text("fine") == "fine\n"
    assert made.root.lstat("pwned") is None


async def test_a_trigger_of_a_base_has_no_more_rights_than_a_line(bench: BuildBench, victim: Path) -> None:
    bench.keep(
        "hostile",
        busybox_tar(),
        {"Env": ["PATH=/bin"], "OnBuild": [f"COPY {victim}/file /stolen", "RUN id -u > /id"]},
    )
    with pytest.raises(SlipwayError, match="ONBUILD"):
        await bench.build("FROM hostile\n")
    bench.keep("mild", busybox_tar(), {"Env": ["PATH=/bin"], "OnBuild": ["RUN --network=host true"]})
    with pytest.raises(SlipwayError, match="not allowed in this project"):
        await bench.build("FROM mild\n")


async def test_a_link_in_the_context_reads_nothing_outside(
    bench: BuildBench, victim: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "out").symlink_to(victim / "file")
    (context / "up").symlink_to("../victim/file")
    (context / "dir").symlink_to(victim)
    for name in ("out", "up", "dir/file", "dir/"):
        with pytest.raises(SlipwayError):
            await bench.build(f"FROM scratch\nCOPY {name} /stolen\n", context)
    (context / "Dockerfile").symlink_to(victim / "file")
    with pytest.raises(SlipwayError):
        await bench.build(None, context)


# Keys


async def test_what_no_step_sees_is_still_part_of_the_image(bench: BuildBench) -> None:
    """A cache that left HEALTHCHECK or ONBUILD out of its keys once handed out another's image."""
    lines = [
        "HEALTHCHECK CMD evil", "ONBUILD RUN evil", 'ENTRYPOINT ["evil"]', 'SHELL ["evil"]', "VOLUME /evil",
        "STOPSIGNAL 9", "USER evil",
    ]  # fmt: skip
    found = {(await bench.build(f"FROM scratch\n{line}\n")).solved.config.to_bytes() for line in ["", *lines]}
    assert len(found) == len(lines) + 1


async def test_no_two_definitions_run_together(bench: BuildBench) -> None:
    pairs = [
        ("ENV A=bc\n", "ENV Ab=c\n"),
        ("ENV A='1 B=2'\n", "ENV A=1 B=2\n"),
        ("WORKDIR /ab\n", "WORKDIR /a/b\n"),
    ]
    for first, second in pairs:
        await bench.build(f"FROM busybox\n{first}RUN env > /env\n")
        assert (await bench.build(f"FROM busybox\n{second}RUN env > /env\n")).ran


# Network


async def test_what_an_image_hides_stays_hidden_where_there_is_no_user_namespace(
    bench: BuildBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place, a root is mounted and unpacked with the same attributes: an opaque directory is one for both."""
    directory, file = tarfile.DIRTYPE, tarfile.REGTYPE
    for name, archive in (
        ("below", _tar(("d", directory, ""), ("d/old", file, ""))),
        ("above", _tar(("d", directory, ""), ("d/.wh..wh..opq", file, ""), ("d/new", file, ""))),
    ):
        bench.keep(name, archive, {})
    images = [bench.images[name] for name in ("busybox", "below", "above")]
    layers = tuple(layer for image in images for layer in image.layers)
    config = replace(images[0].config, diff_ids=tuple(layer.diff_id for layer in layers))
    bench.images["hiding"] = replace(images[0], config=config, layers=layers)
    monkeypatch.setattr(bench, "sandboxes", NestedSandboxes(tmp_path / "lock", ID_COUNT, in_place=True))
    made = await bench.build("FROM hiding\nRUN ls /d > /seen; rm -r /d; mkdir /d; touch /d/x")
    assert made.text("seen") == "new\n"
    assert made.paths("d") == ["d/x"]


async def test_a_proxy_of_ones_own_makes_no_result_for_others(bench: BuildBench) -> None:
    """A proxy is in no key, and who names it decides what a step that fetches something gets."""
    text = "FROM busybox\nRUN echo from ${http_proxy:-the source} > /fetched"
    evil = await bench.build(text, project="evil", args={"http_proxy": "http://evil.example"})
    assert evil.text("fetched") == "from http://evil.example\n"
    assert (await bench.build(text, project="good")).text("fetched") == "from the source\n"
    other = await bench.build(text, project="evil", args={"http_proxy": "http://other.example"})
    assert other.ran == []  # in a project of one's own it is still in no key


async def test_the_addresses_of_clouds_credentials_cannot_be_reached(tmp_path: Path) -> None:
    """A link-local address of this machine stands for the one that clouds have."""

    networks = Networks(tmp_path / "data", tmp_path / "run", "10.223.0.0/16")
    bench = BuildBench(tmp_path / "bench")
    bench.sandboxes = Sandboxes(bench.directory / "builds", BuildNetwork(networks))
    await bench.open()
    await _ip("address", "add", "169.254.77.77/32", "dev", "lo")
    try:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "169.254.77.77", 8099)
        async with server:
            with pytest.raises(Failed):
                await bench.build("FROM busybox\nRUN nc -w 3 169.254.77.77 8099 -e true\n")
    finally:
        await _ip("address", "delete", "169.254.77.77/32", "dev", "lo")
        await bench.close()
        await networks.down()


async def _ip(*words: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", *words)
    assert await process.wait() == 0


# Archives


def _tar(*entries: tuple[str, bytes, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, target in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
    return stream.getvalue()


@pytest.mark.parametrize(
    "entries",
    [
        [("../../escaped", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, "VICTIM"), ("link/file", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, "../../../../VICTIM"), ("link/new", tarfile.REGTYPE, "")],
        [("hard", tarfile.LNKTYPE, "../../../VICTIM/file")],
        [("hard", tarfile.LNKTYPE, "VICTIM/file")],
        [("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("a/x", tarfile.REGTYPE, "")],
        [("disk", tarfile.BLKTYPE, "")],
    ],
)
async def test_a_hostile_archive_in_an_add(
    bench: BuildBench, victim: Path, tmp_path: Path, entries: list[tuple[str, bytes, str]]
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    inside = str(victim).lstrip("/")
    real = [
        (name, kind, target.replace("VICTIM", inside if ".." in target else str(victim)))
        for name, kind, target in entries
    ]
    (context / "evil.tar").write_bytes(_tar(*real))
    with suppress(SlipwayError):
        await bench.build("FROM busybox\nADD evil.tar /d/\nRUN touch /d/link/new /d/hard; true\n", context)
    assert _unharmed(victim)
    assert not (tmp_path / "escaped").exists()
