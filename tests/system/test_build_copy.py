"""COPY and ADD with all their flags, from contexts, URLs and git, by the real solver."""

from __future__ import annotations

import email.utils
import hashlib
import http.server
import io
import os
import socket
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.errors import Denied, Failed, Invalid, NotFound, SlipwayError
from slipway.testing.builds import BuildBench, Outcome
from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import free_port

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    found = tmp_path / "context"
    for name in ("a.txt", "b.md", "x/one.txt", "x/deep/two.txt", "x/deep/three.md", "y/one.txt", "y/.hidden"):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(name)
    (found / "x").chmod(0o750)
    (found / "link").symlink_to("x/deep")
    return found


def files(made: Outcome, below: str = "") -> list[str]:
    return sorted(entry.path for entry in made.root.walk(below) if entry.kind != "dir")


def mode(made: Outcome, path: str) -> str:
    entry = made.root.lstat(path)
    assert entry is not None
    return f"{stat.S_IMODE(entry.mode):o}"


# --exclude, --parents, --chmod, --link


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY --exclude=*.md . /", "a.txt link x/deep/three.md x/deep/two.txt x/one.txt y/.hidden y/one.txt"),
        ("COPY --exclude=**/*.md --exclude=y . /", "a.txt link x/deep/two.txt x/one.txt"),
        ("COPY --exclude=deep x /x", "x/one.txt"),
        ("COPY --exclude=* --exclude=!one.txt x /", "one.txt"),
        ("COPY --exclude=*.txt a.* b.* /", "b.md"),
        ("COPY --parents x/one.txt y/one.txt /d/", "d/x/one.txt d/y/one.txt"),
        ("COPY --parents ./x/./deep/two.txt /d/", "d/deep/two.txt"),
        ("COPY --parents **/one.txt /", "x/one.txt y/one.txt"),
        ("COPY --parents x/**/*.txt /", "x/deep/two.txt x/one.txt"),
        ("COPY --parents --exclude=**/three.md x/deep /", "x/deep/two.txt"),
        ("COPY --parents link/two.txt /", "link/two.txt"),
        ("COPY link /d", "d/three.md d/two.txt"),
        ("COPY --link x/one.txt /d/", "d/one.txt"),
        ("COPY [ \"a.txt\", \"b.md\", \"/d/\" ]", "d/a.txt d/b.md"),
        ("COPY a.txt <<E b.md /d/\nhere\nE", "d/E d/a.txt d/b.md"),
    ],
)  # fmt: skip
async def test_what_is_copied(bench: BuildBench, context: Path, line: str, expected: str) -> None:
    assert " ".join(files(await bench.build(f"FROM scratch\n{line}", context))) == expected


async def test_parents_keep_the_modes_of_their_directories(bench: BuildBench, context: Path) -> None:
    made = await bench.build("FROM scratch\nCOPY --parents --chown=3:4 x/deep/two.txt /d/", context)
    assert (mode(made, "d/x"), mode(made, "d/x/deep"), mode(made, "d")) == ("750", "755", "755")
    entry = made.root.lstat("d/x")
    assert entry is not None
    assert (entry.uid, entry.gid) == (3, 4)


async def test_modes_in_letters(bench: BuildBench, context: Path) -> None:
    (context / "a.txt").chmod(0o640)
    made = await bench.build(
        "FROM scratch\nCOPY --chmod=u=rwX,go=rX x /x\nCOPY --chmod=+x a.txt /run\nCOPY --chmod=4711 a.txt /suid",
        context,
    )
    assert (mode(made, "x"), mode(made, "x/one.txt")) == ("755", "644")
    assert (mode(made, "run"), mode(made, "suid")) == ("751", "4711")


async def test_nothing_left_by_excludes_is_still_a_copy(bench: BuildBench, context: Path) -> None:
    made = await bench.build("FROM scratch\nCOPY --exclude=* a.txt b.md /d/", context)
    assert files(made) == []
    with pytest.raises(NotFound, match="nothing matches"):
        await bench.build("FROM scratch\nCOPY --parents none/** /d/", context)


async def test_a_parents_path_cannot_leave_the_context(
    bench: BuildBench, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_text("secret")
    (context / "out").symlink_to("../outside")
    (context / "up").symlink_to("..")
    for source in ("out", "up/outside", "../outside", "x/./../../outside", "up/**"):
        try:
            made = await bench.build(f"FROM scratch\nCOPY --parents {source} /d/", context)
        except SlipwayError:
            continue
        assert not any(made.text(path) == "secret" for path in files(made) if made.root.read(path))


# Archives


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
async def test_archives_are_known_by_content(bench: BuildBench, context: Path, kind: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{kind}") as archive:  # type: ignore[call-overload]
        archive.add(context / "x", "packed")
    (context / "blob").write_bytes(data.getvalue())
    made = await bench.build(
        "FROM scratch\nADD blob /d\nCOPY blob /same\nADD --unpack=false blob /kept", context
    )
    assert files(made, "d") == ["d/packed/deep/three.md", "d/packed/deep/two.txt", "d/packed/one.txt"]
    for name in ("same", "kept"):
        assert made.root.read(name, 1 << 20) == data.getvalue()


# URLs


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` on an address that is not loopback, and counts what it sent whole."""

    files: dict[str, bytes]
    sent: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path.partition("?")[0])
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:7070/v2/")
            self.end_headers()
        elif self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/file.txt")
            self.end_headers()
        elif data is None:
            self.send_error(404)
        elif self.headers.get("If-None-Match") == '"1"' and self.path == "/file.txt":
            self.send_response(304)
            self.end_headers()
        else:
            self.server.sent += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", email.utils.formatdate(1_000_000, usegmt=True))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but loopback")
    with Server((address, 0), Handler) as found:
        found.files = {"/file.txt": b"content"}
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


async def test_a_file_by_address(bench: BuildBench, server: Server) -> None:
    text = f"FROM scratch\nADD {server.url}/file.txt /d/\nADD {server.url}/moved /other"
    made = await bench.build(text)
    assert (made.text("d/file.txt"), made.text("other")) == ("content", "content")
    entry = made.root.lstat("d/file.txt")
    assert entry is not None
    assert (entry.mode, entry.mtime, entry.uid) == (0o600, 1_000_000, 0)
    sent = server.sent
    assert (await bench.build(text)).ran == []
    assert server.sent == sent  # asked again, it said that nothing had changed


async def test_an_archive_by_address_stays_one_unless_told(
    bench: BuildBench, server: Server, context: Path
) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(context / "x", "packed")
    server.files["/a.tgz"] = data.getvalue()
    made = await bench.build(
        f"FROM scratch\nADD {server.url}/a.tgz /d/\nADD --unpack --chown=5 {server.url}/a.tgz /u/"
    )
    assert files(made, "d") == ["d/a.tgz"]
    assert "u/packed/one.txt" in files(made, "u")
    entry = made.root.lstat("u/packed/one.txt")
    assert entry is not None
    assert entry.uid == os.getuid()  # what comes out of an archive keeps its owner
    into = made.root.lstat("u")
    assert into is not None
    assert into.uid == 5


async def test_a_checksum_is_held(bench: BuildBench, server: Server) -> None:
    good = hashlib.sha256(b"content").hexdigest()
    made = await bench.build(f"FROM scratch\nADD --checksum=sha256:{good} {server.url}/file.txt /f")
    assert made.text("f") == "content"
    with pytest.raises(Failed, match=good):
        await bench.build(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {server.url}/file.txt /f")
    with pytest.raises(Invalid, match="not a checksum"):
        await bench.build(f"FROM scratch\nADD --checksum=md5:1 {server.url}/file.txt /f")


async def test_the_servers_own_addresses_are_not_asked(bench: BuildBench, server: Server) -> None:
    for address in ("http://127.0.0.1:7070/x", "http://localhost/x", "http://[::1]/x", "http://169.254.169.254/x",
                    "http://0.0.0.0:7070/x", "http://2130706433/x", f"{server.url}/away"):  # fmt: skip
        with pytest.raises(Denied, match="the server asks for nobody"):
            await bench.build(f"FROM scratch\nADD {address} /f")


async def test_what_is_not_there_is_said(bench: BuildBench, server: Server) -> None:
    with pytest.raises(NotFound, match=r"Dockerfile:2.*there is nothing at"):
        await bench.build(f"FROM scratch\nADD {server.url}/none /f")
    with pytest.raises(SlipwayError, match="is not known"):
        await bench.build("FROM scratch\nADD http://none.invalid/x /f")


# git


def git(where: Path, *words: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@e.org"]
    done = subprocess.run(["git", *identity, "-C", where, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, server: Server) -> Iterator[str]:
    """A repository over the plain HTTP protocol, with a tag, a branch, a link that leads out and hooks."""
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    git(work, "init", "-q", "-b", "main")
    (work / "file").write_text("one")
    (work / "sub" / "tool").write_text("tool")
    (work / "sub" / "tool").chmod(0o755)
    (work / "out").symlink_to("../../../../../etc")
    git(work, "add", ".")
    git(work, "commit", "-qm", "1")
    git(work, "tag", "v1")
    (work / "file").write_text("two")
    git(work, "commit", "-qam", "2")
    served = tmp_path / "served.git"
    git(tmp_path, "clone", "-q", "--bare", str(work), str(served))
    port = free_port()
    url = f"git://{server.server_address[0]!s}:{port}/served.git"
    process = subprocess.Popen(
        ["git", "daemon", "--export-all", f"--base-path={tmp_path}", "--reuseaddr",
         f"--listen={server.server_address[0]!s}", f"--port={port}", str(tmp_path)],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    end = time.monotonic() + 60
    while subprocess.run(["git", "ls-remote", url], capture_output=True, check=False).returncode:
        assert time.monotonic() < end
    yield url
    process.terminate()
    process.communicate()


async def test_a_repository(bench: BuildBench, repository: str, tmp_path: Path) -> None:
    made = await bench.build(f"FROM scratch\nADD {repository} /now\nADD {repository}#v1:sub /old")
    assert made.text("now/file") == "two"
    assert files(made, "old") == ["old/tool"]
    assert (mode(made, "old/tool"), mode(made, "now/file")) == ("755", "644")
    assert made.root.lstat("now/.git") is None
    head = git(tmp_path / "work", "rev-parse", "HEAD")
    kept = await bench.build(
        f"FROM scratch\nADD --keep-git-dir --checksum={head[:12]} {repository}#{head} /r"
    )
    assert kept.text("r/.git/HEAD").strip() == head
    assert (await bench.build(f"FROM scratch\nADD {repository}#v1:sub /old")).ran == []


async def test_a_repositorys_tricks(bench: BuildBench, repository: str) -> None:
    with pytest.raises(NotFound, match="no 'none'"):
        await bench.build(f"FROM scratch\nADD {repository}#none /r")
    with pytest.raises(Failed, match="is the commit"):
        await bench.build(f"FROM scratch\nADD --checksum=0000000 {repository} /r")
    with pytest.raises(NotFound, match="has no 'out'"):
        await bench.build(f"FROM scratch\nADD {repository}#main:out /r")
    made = await bench.build(f"FROM scratch\nADD {repository}#main:../../.. /r")
    assert files(made) == ["r/file", "r/out", "r/sub/tool"]
    with pytest.raises(Denied):
        await bench.build("FROM scratch\nADD git://127.0.0.1/x /r")
