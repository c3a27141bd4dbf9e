"""COPY and ADD with all their flags, from contexts, URLs and git, by the real solver."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import http.server
import io
import lzma
import os
import socket
import stat
import subprocess
import tarfile
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from slipway.base.trees import remove_tree
from slipway.build.remote import HttpSource, Remotes
from slipway.errors import Denied, Failed, Invalid, NotFound, SlipwayError, Unavailable
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


def tar(*rows: tuple[str, bytes, str]) -> bytes:
    """An archive of these names, kinds, and contents or targets."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, value in rows:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o755
            data = value.encode() if kind == tarfile.REGTYPE else b""
            member.size, member.linkname = len(data), "" if data else value
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("dest", ["/", "/opt/tool/"])
async def test_hard_links_of_an_archive(bench: BuildBench, context: Path, dest: str) -> None:
    """To what comes later by its name, to another link, and wherever the archive is unpacked."""
    link = tarfile.LNKTYPE
    rows = (
        ("m/file", tarfile.REGTYPE, "content"),
        ("a", link, "m/file"),
        ("0", link, "a"),
        ("z", link, "./a"),
    )
    (context / "t.tar").write_bytes(tar(*rows))
    made = await bench.build(f"FROM scratch\nADD t.tar {dest}", context)
    below = dest.strip("/")
    assert {made.text(os.path.join(below, name)) for name, *_ in rows} == {"content"}


async def test_an_archive_over_a_root_with_links(bench: BuildBench, context: Path) -> None:
    """Where tar would put it: through a link to a directory; what is of another kind makes room."""
    directory, file, link = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE
    bench.keep("merged", tar(
        ("usr", directory, ""), ("usr/lib", directory, ""), ("lib", link, "usr/lib"), ("bin", link, "usr/lib"),
        ("old", directory, ""), ("old/inner", file, "x"), ("plain", file, "x"),
    ), {})  # fmt: skip
    (context / "t.tar").write_bytes(tar(
        ("lib/a", file, "a"), ("lib/b", tarfile.LNKTYPE, "lib/a"), ("new", link, "lib"), ("new/c", file, "c"),
        ("bin", directory, ""), ("bin/d", file, "d"), ("old", file, "now a file"), ("plain", directory, ""),
        ("plain/e", file, "e"),
    ))  # fmt: skip
    made = await bench.build("FROM merged\nADD t.tar /", context)
    assert made.paths() == [
        "bin", "bin/d", "lib", "new", "old", "plain", "plain/e", "usr", "usr/lib", "usr/lib/a", "usr/lib/b",
        "usr/lib/c",
    ]  # fmt: skip
    assert (made.text("lib/b"), made.text("old")) == ("a", "now a file")


async def test_an_archive_cannot_ask_for_all_memory(bench: BuildBench, context: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    packed = bytearray(lzma.compress(tar(("a", tarfile.REGTYPE, "a")), lzma.FORMAT_XZ, filters=filters))
    assert packed[12:17] == bytes(
        [2, 0, 0x21, 1, 16]
    )  # the block's header: LZMA2, a dictionary of a mebibyte
    packed[16] = 39  # 3 GiB
    packed[20:24] = zlib.crc32(packed[12:20]).to_bytes(4, "little")
    (context / "t.xz").write_bytes(packed)
    with pytest.raises(Invalid, match="Memory usage limit"):
        await bench.build("FROM scratch\nADD t.xz /", context)


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
        if self.path == "/unchanged":
            self.send_response(304)
            self.end_headers()
        elif self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:7070/v2/")
            self.end_headers()
        elif self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/file.txt")
            self.end_headers()
        elif data is None:
            self.send_error(404)
        elif self.headers.get("If-None-Match") == '"1"' and self.path in ("/file.txt", "/other.txt"):
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


async def test_one_address_several_times_at_once(bench: BuildBench, server: Server) -> None:
    one, two = f"{server.url}/file.txt", f"{server.url}/other.txt"
    server.files["/other.txt"] = b"other"
    texts = [
        f"FROM scratch\nADD {a} {b} {a} /{number}/" for number, (a, b) in enumerate([(one, two), (two, one)])
    ]
    async with asyncio.timeout(60):
        for number, made in enumerate(await asyncio.gather(*map(bench.build, texts))):
            assert files(made) == [f"{number}/file.txt", f"{number}/other.txt"]


async def test_what_was_fetched_stays_what_it_was_while_it_is_used(server: Server, tmp_path: Path) -> None:
    remotes, source = Remotes(tmp_path / "remotes"), HttpSource(f"{server.url}/new", "new")
    server.files["/new"] = b"first"
    async with asyncio.timeout(60), remotes.fetched(source) as first:
        server.files["/new"] = b"second"
        async with remotes.fetched(source) as second:
            assert await remotes.prune(timedelta(days=-1)) == 0, "it is in use"
            with first.tree.open(first.path) as before, second.tree.open(second.path) as after:
                assert (before.read(), after.read()) == (b"first", b"second")
    assert await remotes.prune(timedelta(days=-1)) == 1


async def test_users_that_came_by_address_are_known_to_the_next_line(
    bench: BuildBench, server: Server, context: Path
) -> None:
    server.files["/passwd"] = b"app:x:1234:1234::/:/bin/sh\n"
    made = await bench.build(
        f"FROM scratch\nADD {server.url}/passwd /etc/passwd\nCOPY --chown=app a.txt /", context
    )
    entry = made.root.lstat("a.txt")
    assert entry is not None
    assert entry.uid == 1234


async def test_a_server_that_says_unchanged_without_being_asked(bench: BuildBench, server: Server) -> None:
    with pytest.raises(Unavailable, match="HTTP 304"):
        await bench.build(f"FROM scratch\nADD {server.url}/unchanged /f")


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


async def test_two_parts_of_one_repository(bench: BuildBench, repository: str) -> None:
    async with asyncio.timeout(60):
        made = await bench.build(f"FROM scratch\nADD {repository}#main:sub {repository}#v1 /r/")
    assert files(made) == ["r/file", "r/out", "r/sub/tool", "r/tool"]


async def test_a_fetch_that_was_killed_is_in_nobodys_way(bench: BuildBench, repository: str) -> None:
    await bench.build(f"FROM scratch\nADD {repository}#v1 /r")
    kept = next((bench.directory / "remotes").glob("*/repository"))
    for name in ("shallow.lock", "refs/heads/main.lock"):
        (kept / name).touch()
    (kept.parent / "making").mkdir()
    made = await bench.build(f"FROM scratch\nADD {repository}#main /r")
    assert made.text("r/file") == "two"
    remove_tree(kept / "objects")
    (kept / "HEAD").unlink()  # it was killed while it made the repository
    assert (await bench.build(f"FROM scratch\nADD {repository}#v1 /s")).text("s/file") == "one"


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
