"""Inputs beyond what anybody means: they are handled or refused, and nothing is left."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from slipway.base.trees import remove_tree
from slipway.content import LocalStore
from slipway.errors import Invalid
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    found = tmp_path / "context"
    found.mkdir()
    return found


@pytest.mark.slow
async def test_a_tar_bomb_is_refused_long_before_the_disk_is_full(bench: BuildBench, context: Path) -> None:
    """Six GiB of zeros in six MiB: gzip members one behind the other are one stream."""
    entry = tarfile.TarInfo("zeros")
    entry.size = 6 << 30
    block = gzip.compress(bytes(64 << 20), 9)
    with (context / "bomb.tar.gz").open("wb") as handle:
        handle.write(gzip.compress(entry.tobuf()))
        for _ in range(6 * 16):
            handle.write(block)
    assert (context / "bomb.tar.gz").stat().st_size < 10 << 20
    with pytest.raises(Invalid, match="unpacks to more than 500 times its size"):
        await bench.build("FROM scratch\nADD bomb.tar.gz /\n", context)


async def test_a_path_of_a_thousand_directories(bench: BuildBench, context: Path) -> None:
    fd = os.open(context, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(Invalid, match=r"deep|components"):
        await bench.build("FROM busybox\nCOPY . /deep\nRUN true\n", context)
    remove_tree(context / "d")  # pytest's own cannot go that deep


async def test_an_archive_of_a_thousand_directories(bench: BuildBench, context: Path) -> None:
    with tarfile.open(context / "deep.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("/".join(["d"] * 1000)))
    with pytest.raises(Invalid, match="components"):
        await bench.build("FROM busybox\nADD deep.tar /deep\nRUN true\n", context)


async def test_pipes_sockets_and_devices_in_a_context(bench: BuildBench, context: Path) -> None:
    os.mkfifo(context / "pipe")
    made = await bench.build("FROM busybox\nCOPY . /c\nRUN test -p /c/pipe\n", context)
    entry = made.root.lstat("c/pipe")
    assert entry is not None
    assert entry.kind == "fifo"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(context / "socket"))
    with pytest.raises(Invalid, match="'socket' in the context is a socket or a device"):
        await bench.build("FROM busybox\nCOPY . /c\n", context)
    (context / ".dockerignore").write_text("socket\n")
    await bench.build("FROM busybox\nCOPY . /c\n", context)
    os.mknod(context / "null", 0o666 | 0o020000, os.makedev(1, 3))
    with pytest.raises(Invalid, match="'null' in the context is a socket or a device"):
        await bench.build("FROM busybox\nCOPY . /c\n", context)


MANY = """
import asyncio, resource, sys
from pathlib import Path
from slipway.build.request import SolveRequest
from slipway.build.solve import Reporter
from slipway.testing.builds import BuildBench

async def main() -> None:
    bench = BuildBench(Path(sys.argv[1]) / "many")
    await bench.open()
    async with bench.workers("x") as workers:
        request = SolveRequest("x", Path(sys.argv[2]), inline="FROM scratch\\nADD many.tar.gz /\\n")
        solved = await bench.solver.solve(request, bench, workers, Reporter("x", "", lambda event: None))
    print(solved.records and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    await bench.close()

asyncio.run(main())
"""


@pytest.mark.slow
def test_an_archive_of_a_million_entries(tmp_path: Path, context: Path) -> None:
    """It is built; memory grows by an entry's name and metadata, never by its content."""
    with gzip.open(context / "many.tar.gz", "wb", compresslevel=1) as packed:
        with tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(1_000_000):
                archive.addfile(tarfile.TarInfo(f"d{number // 1000}/f{number}"))
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(tmp_path), str(context)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 2 << 20, "KiB resident"


@pytest.mark.slow
def test_a_full_disk_fails_the_build_and_nothing_else(tmp_path: Path) -> None:
    image, mount = tmp_path / "disk", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as handle:
        handle.truncate(160 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    platform = Running.make(mount)
    try:
        platform.up()
        source = tmp_path / "source"
        source.mkdir()
        (source / "busybox").write_bytes(BUSYBOX.read_bytes())
        (source / "busybox").chmod(0o755)
        (source / "Dockerfile").write_text(
            "FROM scratch\nCOPY busybox /bin/busybox\n"
            'RUN ["/bin/busybox", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=100"]\n'
        )
        platform.command("build", str(source), "--target", "0", "-t", "small", "--check")
        done = platform.command("build", str(source), "-t", "big", ok=False)
        assert done.returncode == 1
        said = done.stderr.decode()
        assert "No space left" in said or "disk" in said
        assert "Traceback" not in said
        # The same with less fits: nothing of the failed build takes room, and the server went on.
        (source / "Dockerfile").write_text(
            'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "true"]\n'
        )
        platform.command("build", str(source), "-t", "small")
        content = LocalStore(platform.data / "content")
        assert list(content.fsck()) == []
        assert list((platform.data / "content/ingest").iterdir()) == []
        assert list((platform.data / "snapshots/active").iterdir()) == []
    finally:
        platform.down()
        subprocess.run(["umount", str(mount)], check=True)
