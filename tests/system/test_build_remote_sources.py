"""Sources for a few only, repositories in repositories, layouts, the time of a commit; over real git and HTTP."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from slipway.errors import Denied, Invalid, SlipwayError
from slipway.testing.builds import BuildBench
from slipway.testing.busybox import BUSYBOX
from slipway.testing.platform import Running

_BACKEND = Path("/usr/lib/git-core/git-http-backend")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs busybox-static"),
    pytest.mark.skipif(not _BACKEND.exists(), reason="needs git's HTTP backend"),
]
_WHEN = 1_000_000_000


class Server(http.server.ThreadingHTTPServer):
    """``/file`` and the repositories below ``root``, each only with the word that ``needed`` has for it."""

    root: Path
    needed: ClassVar[dict[str, str]] = {
        "/file": "Bearer letmein",
        "/private.git": "Basic " + base64.b64encode(b"x-access-token:gitword").decode(),
        "/inner.git": "Basic " + base64.b64encode(b"x-access-token:gitword").decode(),
    }

    @property
    def host(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _answer(self, body: bytes) -> None:
        top = "/" + self.path.split("/")[1].partition("?")[0]
        word = self.server.needed.get(top)
        if word is not None and self.headers.get("Authorization") != word:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
        elif top == "/file":
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(b"secret content")
        else:
            self._git(body)

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            [_BACKEND], input=body, capture_output=True, check=True,
            env={
                "GIT_PROJECT_ROOT": str(self.server.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                "QUERY_STRING": query, "REQUEST_METHOD": self.command, "PATH": os.environ["PATH"],
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_ADDR": "192.0.2.1",
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            },
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def git(where: Path, *words: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@e.org", "-c", "protocol.file.allow=always"]
    env = os.environ | {"GIT_COMMITTER_DATE": f"{_WHEN} +0000"}
    done = subprocess.run(
        ["git", *identity, "-C", where, *words], check=True, capture_output=True, text=True, env=env
    )
    return done.stdout.strip()


def repository(root: Path, name: str, modules: dict[str, str] | None = None) -> None:
    """``root/NAME.git`` with a file of its name and submodules by path and address."""
    work = root / f"{name}-work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    (work / name).write_text(name)
    (work / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    for path, inner in (modules or {}).items():
        git(work, "submodule", "--quiet", "add", f"{root}/{inner}.git", path)
        git(work, "config", "--file", ".gitmodules", f"submodule.{path}.url", f"../{inner}.git")
    git(work, "add", ".")
    git(work, "commit", "-qm", "1")
    git(root, "clone", "-q", "--bare", str(work), str(root / f"{name}.git"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("served")
    repository(root, "inner")
    repository(root, "middle", {"deep": "inner"})
    repository(root, "outer", {"mid": "middle"})
    repository(root, "private")
    repository(root, "open")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but loopback")
    with Server((address, 0), Handler) as found:
        found.root = root
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


async def test_a_file_behind_a_token(bench: BuildBench, server: Server) -> None:
    text = f"FROM scratch\nADD http://{server.host}/file /f"
    host = server.host.partition(":")[0]
    token = {f"HTTP_AUTH_TOKEN_{host}": b"letmein\n"}
    made = await bench.build(text, secrets=token)
    assert made.text("f") == "secret content"
    header = {f"HTTP_AUTH_HEADER_{server.host}": b"Bearer letmein"}
    assert (await bench.build(text, secrets=header)).text("f") == "secret content"
    for secrets in ({}, {f"HTTP_AUTH_TOKEN_{host}": b"wrong"}, {"HTTP_AUTH_TOKEN_example.org": b"letmein"}):
        with pytest.raises(Denied, match="is not for everybody"):
            await bench.build(text, secrets=secrets)
    with pytest.raises(Invalid, match="no single line"):
        await bench.build(text, secrets={f"HTTP_AUTH_TOKEN_{host}": b"a\r\nHost: other"})
    everything = json.dumps(made.events) + repr(made.solved) + made.solved.config.to_bytes().decode()
    assert "letmein" not in everything
    kept = b"".join(path.read_bytes() for path in bench.directory.rglob("*.json"))
    assert b"letmein" not in kept


async def test_a_repository_behind_a_token(bench: BuildBench, server: Server) -> None:
    commit = git(server.root / "private-work", "rev-parse", "HEAD")
    for reference in ("", f"#{commit}"):
        text = f"FROM scratch\nADD http://{server.host}/private.git{reference} /r"
        for name in ("GIT_AUTH_TOKEN", f"GIT_AUTH_TOKEN.{server.host}"):
            assert (await bench.build(text, secrets={name: b"gitword"})).text("r/private") == "private"
        # Not even by a commit that is here already: it was fetched with a word that this build does not have.
        with pytest.raises(SlipwayError, match="cannot be fetched"):
            await bench.build(text)
        with pytest.raises(SlipwayError, match="cannot be fetched"):
            await bench.build(text, secrets={"GIT_AUTH_TOKEN.example.org": b"gitword"})


async def test_submodules_of_submodules(bench: BuildBench, server: Server) -> None:
    text = f"FROM scratch\nADD http://{server.host}/outer.git /r"
    with pytest.raises(SlipwayError, match="cannot be fetched"):
        await bench.build(text)  # the innermost is not for everybody
    made = await bench.build(text, secrets={"GIT_AUTH_TOKEN": b"gitword"})
    assert [made.text(f"r/{path}") for path in ("outer", "mid/middle", "mid/deep/inner")] == [
        "outer", "middle", "inner",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("p"))
    found.seed_base()
    found.up()
    yield found
    found.down()


def test_the_time_of_a_commit(platform: Running, server: Server, tmp_path: Path) -> None:
    address = f"http://{server.host}/open.git"
    words = ["--build-arg", "SOURCE_DATE_EPOCH=context", "-t", "timed"]
    platform.command("build", address, *words)
    found = platform.json("image", "inspect", "demo/timed")
    assert "2001-09-09T01:46:40" in json.dumps(found)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    refused = platform.command("build", str(tmp_path), *words, ok=False)
    assert (refused.returncode, b"needs a git repository" in refused.stderr) == (1, True)


def test_a_private_repository_as_the_context(platform: Running, server: Server, tmp_path: Path) -> None:
    address = f"http://{server.host}/private.git"
    assert platform.command("build", address, "-t", "private", ok=False).returncode == 1
    (tmp_path / "word").write_text("gitword")
    platform.command("build", address, "-t", "private", "--secret", f"id=GIT_AUTH_TOKEN,src={tmp_path}/word")


def test_the_git_directory_of_a_context_is_kept_when_asked(
    platform: Running, server: Server, tmp_path: Path
) -> None:
    address = f"http://{server.host}/open.git"
    for number, (words, kept) in enumerate(
        (([], False), (["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"], True))
    ):
        out = tmp_path / f"out{number}"
        platform.command("build", address, *words, "-o", str(out))
        assert (out / ".git" / "HEAD").exists() is kept


def test_an_oci_layout_as_a_context(platform: Running, tmp_path: Path) -> None:
    made, source = tmp_path / "made", tmp_path / "source"
    made.mkdir()
    source.mkdir()
    (made / "Dockerfile").write_text("FROM scratch\nCOPY word /word\nENV KEPT=yes\n")
    (made / "word").write_text("from the layout")
    layout = tmp_path / "layout"
    platform.command("build", str(made), "-t", "made", "-o", f"type=oci,dest={tmp_path}/layout.tar")
    layout.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "layout.tar", "-C", layout], check=True)
    (source / "Dockerfile").write_text("FROM base AS one\nFROM scratch\nCOPY --from=base /word /got\n")
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    for number, named in enumerate(("", ":latest", f"@{digest}")):
        out = tmp_path / f"out{number}"
        words = ["--build-context", f"base=oci-layout://{layout}{named}", "-o", str(out)]
        platform.command("build", str(source), *words)
        assert (out / "got").read_text() == "from the layout"
    for text, named in (("has no image 'none'", ":none"), ("has no blobs/", f"@sha256:{'0' * 64}")):
        words = ["--build-context", f"base=oci-layout://{layout}{named}", "-t", "x"]
        done = platform.command("build", str(source), *words, ok=False)
        assert (done.returncode, text in done.stderr.decode()) == (1, True), done.stderr
    # A layout is somebody else's: what it says is not believed, and no link leads out of it.
    blob = layout / "blobs" / "sha256" / digest.partition(":")[2]
    blob.write_bytes(blob.read_bytes() + b" ")
    (source / "other").write_text("changed, so that nothing is known")
    words = ["--build-context", f"base=oci-layout://{layout}", "-t", "x", "--no-cache"]
    done = platform.command("build", str(source), *words, ok=False)
    assert (done.returncode, b"other content" in done.stderr) == (1, True), done.stderr
    blob.unlink()
    blob.symlink_to("/etc/passwd")
    done = platform.command("build", str(source), *words, ok=False)
    assert done.returncode == 1
    assert b"root:" not in done.stderr
