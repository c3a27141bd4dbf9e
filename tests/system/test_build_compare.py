"""Dockerfiles that cover the language: what BuildKit makes of them, and what we make of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.testing.builds import BuildBench, Outcome
from slipway.testing.busybox import BUSYBOX, busybox_tar
from slipway.testing.peers import Docker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        not BUSYBOX.exists() or not shutil.which("dockerd"), reason="needs busybox and dockerd"
    ),
]

B = "FROM busybox\n"
# Left out, since the outcome differs on purpose: ARG after ENV of the same name (this BuildKit lets the ARG win in RUN,
# the reference says that ENV always does), and a RUN that removes /etc (there it fails: files are mounted in it).
CASES = {
    # ENV, ARG and substitution
    "env": B + "ENV a=1 b=$a c=${a:-2}\nENV d=$a e='$a' f=\"$a\" g=\\$a",
    "env-old": B + "ENV key several  words here",
    "env-one-line": B + "ENV a=1\nENV a=2 b=$a\nRUN echo $a$b > /f",
    "env-modifiers": B + "ENV x=abc\nENV p=${x:+set} q=${y:+set} r=${y:-un}",
    "env-quotes": B + "ENV a=\"x y\" b='x \"y\"' c=x\\ y d=\"x\\\"y\"",
    "env-empty": B + "ENV a= b=\"\"\nRUN echo \"[$a]\" > /f",
    "env-path": B + "ENV PATH=/opt:$PATH\nRUN echo $PATH > /f",
    "arg": B + "ARG a=1\nARG b=$a\nRUN echo $a $b > /f",
    "arg-global": "ARG v=busybox\nFROM $v\nARG v\nRUN echo [$v] > /f",
    "arg-global-unseen": "ARG v=x\nFROM busybox\nRUN echo [$v] > /f",
    "arg-env": B + "ARG a=1\nENV a=2\nRUN echo $a > /f",
    "arg-stage": "FROM busybox AS x\nARG a=1\nFROM x\nRUN echo [$a] > /f",
    "arg-platform": B + "ARG TARGETARCH\nARG TARGETOS\nRUN echo $TARGETOS/$TARGETARCH > /f",
    # WORKDIR, USER
    "workdir": B + "WORKDIR /a\nWORKDIR b/c\nWORKDIR ../d\nRUN pwd > f",
    "workdir-env": B + "ENV d=/x\nWORKDIR $d/y\nRUN pwd > f",
    "workdir-user": B + "USER 7:8\nWORKDIR /home/u/x\nRUN id -u > /tmp/f; id -g >> /tmp/f",
    "workdir-link": B + "RUN mkdir /real && ln -s /real /link\nWORKDIR /link/sub\nRUN touch f",
    "workdir-exists": B + "RUN mkdir -m 700 /w && chown 5:6 /w\nWORKDIR /w\nRUN touch f",
    "user-number": B + "RUN mkdir -p /etc && touch /etc/passwd\nUSER 1000\n"
        "RUN id -u > /tmp/f; id -g >> /tmp/f; touch /tmp/g",
    "user-name": B + "RUN echo 'u:x:50:60::/home/u:/bin/sh' > /etc/passwd; echo 'g:x:60:' > /etc/group\nUSER u\n"
        "RUN id > /tmp/f",
    "user-group": B + "RUN echo 'u:x:50:60::/h:/bin/sh' > /etc/passwd; echo 'g:x:70:u' > /etc/group\nUSER u:g\n"
        "RUN id -g > /tmp/f",
    # RUN
    "run-exec": B + 'RUN ["/bin/sh", "-c", "echo $0 $1 > /f", "a", "b"]',
    "run-continued": B + "RUN echo a \\\n  b \\\n# no\n  c > /f",
    "run-umask": B + "RUN mkdir /d && touch /d/f && umask > /u",
    "run-remove": B + "RUN rm /bin/httpd && mkdir /x && rmdir /tmp",
    "run-replace-dir": B + "RUN mkdir /d && touch /d/a\nRUN rm -r /d && mkdir /d && touch /d/b",
    "run-dir-to-file": B + "RUN mkdir /d && touch /d/a\nRUN rm -r /d && echo x > /d",
    "run-links": B + "RUN ln -s a /l && echo x > /a && ln /a /h",
    "run-hardlink-across": B + "RUN echo x > /a\nRUN ln /a /b",
    "run-modes": B + "RUN echo x > /s && chmod 4755 /s && mkdir -m 1777 /t && mkdir -m 2750 /g && chown 3:4 /g",
    "run-fifo": B + "RUN mkfifo /p",
    "run-chown": B + "RUN echo x > /a\nRUN chown 9:9 /a",
    "run-home": B + "RUN mkdir -p /etc && touch /etc/passwd\nRUN echo $HOME > /f\nUSER 5\nRUN echo $HOME > /tmp/g",
    "run-stdin": B + "RUN cat > /f; echo $? > /g",
    "run-exec-path": B + 'RUN ["mkdir", "/made"]',
    "run-tabs": B + "RUN\techo\ta > /f",
    "run-nothing": B + "RUN true\nRUN touch /x && rm /x",
    "shell": B + 'SHELL ["/bin/sh", "-e", "-c"]\nRUN echo a > /f\nCMD go',
    "run-hosts": B + "RUN grep -c localhost /etc/hosts > /f; test -e /etc/resolv.conf && echo y >> /f",
    # COPY
    "copy-file": B + "COPY a.txt /f",
    "copy-into": B + "COPY a.txt /d/",
    "copy-several": B + "COPY a.txt b.md /d/",
    "copy-dir": B + "COPY x /d",
    "copy-dir-slash": B + "COPY x/ /d/",
    "copy-all": B + "COPY . /all",
    "copy-wild": B + "COPY *.txt /d/",
    "copy-wild-dirs": B + "COPY x/* /d/",
    "copy-question": B + "COPY ?.txt /d/",
    "copy-class": B + "COPY [ab].* /d/",
    "copy-relative": B + "WORKDIR /w\nCOPY a.txt .\nCOPY a.txt sub/\nCOPY a.txt name",
    "copy-json": B + 'COPY ["a.txt", "sp ace", "/d/"]',
    "copy-chown": B + "COPY --chown=5:6 x /d",
    "copy-chown-one": B + "COPY --chown=5 a.txt /d/f",
    "copy-chown-name": B + "RUN echo 'u:x:50:60::/h:/bin/sh' > /etc/passwd; echo 'g:x:70:' > /etc/group\n"
        "COPY --chown=u:g a.txt /f",
    "copy-chmod": B + "COPY --chmod=640 x /d",
    "copy-user": B + "USER 5\nCOPY a.txt /f",
    "copy-over-file": B + "RUN echo old > /f && chmod 600 /f && chown 3 /f\nCOPY a.txt /f",
    "copy-over-dir": B + "RUN mkdir -m 700 /d && chown 3:4 /d && echo x > /d/kept\nCOPY x /d",
    "copy-link-source": B + "COPY link /d",
    "copy-link-inside": B + "COPY links /d",
    "copy-link-dest": B + "RUN mkdir /real && ln -s /real /l\nCOPY a.txt /l/",
    "copy-parent-dest": B + "COPY a.txt /new/deep/er/f",
    "copy-root": B + "COPY x /",
    "copy-dot-dot": B + "COPY ../a.txt /f",
    "copy-env": B + "ENV s=a.txt d=/q\nCOPY $s ${d}/",
    "copy-modes": B + "COPY modes /m",
    "copy-empty-dir": B + "COPY empty /e",
    "copy-nested-parents": B + "RUN mkdir -m 711 /p\nCOPY a.txt /p/q/f",
    "copy-twice": B + "COPY x /d\nCOPY y /d",
    # stages
    "stage": "FROM busybox AS one\nRUN echo x > /f\nFROM busybox\nCOPY --from=one /f /g",
    "stage-number": "FROM busybox\nRUN echo x > /f\nFROM busybox\nCOPY --from=0 /f /g",
    "stage-on-stage": "FROM busybox AS one\nENV a=1\nRUN echo $a > /f\nFROM one\nRUN cat /f > /g",
    "stage-dir": "FROM busybox AS one\nRUN mkdir -p /o/p && chmod 700 /o/p && chown 4:5 /o && touch /o/p/f\n"
        "FROM busybox\nCOPY --from=one /o /n",
    "stage-links": "FROM busybox AS one\nRUN mkdir /o && echo x > /o/a && ln -s a /o/l && ln -s /o /q\n"
        "FROM busybox\nCOPY --from=one /q /n\nCOPY --from=one /o/l /file",
    "stage-image": B + "COPY --from=busybox /bin/busybox /tool",
    "stage-unneeded": "FROM busybox AS bad\nRUN false\nFROM busybox\nRUN touch /f",
    "stage-wild": "FROM busybox AS one\nRUN mkdir /o && touch /o/a.x /o/b.x /o/c.y\nFROM busybox\n"
        "COPY --from=one /o/*.x /n/",
    "stage-chown": "FROM busybox AS one\nRUN touch /f && chown 3:3 /f\nFROM busybox\nCOPY --from=one --chown=7:8 /f /g",
    "scratch": "FROM scratch\nCOPY a.txt /\nENV a=b",
    # ADD
    "add-tar": B + "ADD t.tar /d",
    "add-gzip": B + "ADD t.tgz /d/",
    "add-xz": B + "ADD t.txz /d/",
    "add-no-tar": B + "ADD a.txt /d/",
    "add-not-by-name": B + "ADD fake.tgz /d/",
    "add-chown": B + "ADD --chown=3:4 t.tar /d",
    "add-dir": B + "ADD x /d",
    "add-over": B + "RUN mkdir -m 700 /d && touch /d/k\nADD t.tar /d",
    # configuration
    "cmd": B + 'CMD ["a", "b"]',
    "cmd-shell": B + "CMD a $b 'c'",
    "cmd-twice": B + "CMD a\nCMD b",
    "entrypoint": B + 'ENTRYPOINT ["a"]\nCMD ["b"]',
    "entrypoint-resets": "FROM busybox AS one\nCMD a\nFROM one\nENTRYPOINT b",
    "entrypoint-keeps": B + "CMD a\nENTRYPOINT b",
    "label": B + "LABEL a=1 b=\"x y\" \"c d\"=e\nLABEL a=2",
    "label-env": B + "ENV v=1\nLABEL x=$v y='$v'",
    "expose": B + "EXPOSE 80 443/tcp 53/udp\nEXPOSE 8000-8002",
    "volume": B + 'VOLUME /a /b\nVOLUME ["/c"]',
    "stopsignal": B + "STOPSIGNAL SIGINT",
    "stopsignal-number": B + "STOPSIGNAL 9",
    "user-config": B + "USER a:b\nUSER 5",
    "healthcheck": B + "HEALTHCHECK --interval=5s --timeout=3s --retries=2 --start-period=1m CMD test -e /f",
    "healthcheck-exec": B + 'HEALTHCHECK CMD ["a", "b"]',
    "healthcheck-none": B + "HEALTHCHECK NONE",
    "maintainer": B + "MAINTAINER some one",
    "onbuild": B + "ONBUILD RUN touch /x\nONBUILD COPY a.txt /b",
    "onbuild-used": "FROM busybox AS one\nONBUILD RUN echo x > /made\nFROM one\nRUN cat /made > /f",
    "escape": "# escape=`\nFROM busybox\nRUN echo a `\n b > /f",
    "comments": "# c\n\n" + B + "# d\nRUN echo '# e' > /f # g",
    "case": "from busybox as X\nrun echo x > /f\nFrom x\nRun cat /f > /g",
    # mounts
    "mount-bind": B + "RUN --mount=target=/m cp /m/a.txt /f && ls -A /m | wc -l > /n",
    "mount-from": "FROM busybox AS one\nRUN echo x > /o\nFROM busybox\n"
        "RUN --mount=from=one,source=/o,target=/m cat /m > /f",
    "mount-tmpfs": B + "RUN --mount=type=tmpfs,target=/m touch /m/x; stat -c %a /m > /f",
    "mount-cache": B + "RUN --mount=type=cache,target=/m,uid=5,mode=0750 stat -c '%u %a' /m > /f",
}  # fmt: skip
# Of the process's own making in one or the other; nothing of it is in a layer of ours.
_LEFT_OUT = ("dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv")
_CONFIG = (
    "Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "Volumes", "WorkingDir", "User", "StopSignal", "Healthcheck",
    "OnBuild", "Shell",
)  # fmt: skip
# Mount points: BuildKit's runtime makes them in the step's own layer and leaves them there, we do not.
_STUBS = ("m", "etc")


@dataclass(frozen=True, slots=True)
class Made:
    files: dict[str, tuple[Any, ...]]
    config: dict[str, Any]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("context")
    for name in (
        "a.txt",
        "b.md",
        "sp ace",
        "x/one",
        "x/deep/two",
        "y/one",
        "y/three",
        "modes/ro",
        "modes/exe",
        "links/t",
    ):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(name)
    (found / "modes" / "ro").chmod(0o400)
    (found / "modes" / "exe").chmod(0o711)
    (found / "modes").chmod(0o2751)
    (found / "empty").mkdir()
    (found / "link").symlink_to("x/deep")
    (found / "links" / "inside").symlink_to("t")
    (found / "links" / "away").symlink_to("/etc/passwd")
    (found / "fake.tgz").write_text("no archive")
    for kind, name in (("", "t.tar"), ("gz", "t.tgz"), ("xz", "t.txz")):
        with tarfile.open(found / name, f"w:{kind}") as archive:  # type: ignore[call-overload]
            archive.add(found / "x", "packed", filter=_owned)
    return found


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid, entry.gid, entry.mode = 11, 12, entry.mode & 0o750
    return entry


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    directory = tmp_path_factory.mktemp("d")
    with ExitStack() as stack:
        found = Docker(directory, stack)
        (directory / "busybox.tar").write_bytes(busybox_tar())
        found.run("import", "--change", "ENV PATH=/bin", str(directory / "busybox.tar"), "busybox")
        yield found


def by_docker(docker: Docker, text: str, context: Path, directory: Path) -> Made:
    (directory / "Dockerfile").write_text(text)
    docker.run(
        "build", "-q", "--network=none", "-t", "made", "-f", str(directory / "Dockerfile"), str(context)
    )
    (facts,) = json.loads(docker.run("image", "inspect", "made"))
    container = docker.run("create", "made", "/none").strip()
    docker.run("export", "-o", str(directory / "root.tar"), container)
    docker.run("rm", container)
    files = {}
    hashes: dict[str, str] = {}
    with tarfile.open(directory / "root.tar") as archive:
        for entry in archive:
            path = entry.name.strip("/")
            data = archive.extractfile(entry) if entry.isfile() else None
            if data is not None:
                hashes[path] = hashlib.sha256(data.read()).hexdigest()
            content = hashes.get(path) or hashes.get(entry.linkname, "") if not entry.issym() else ""
            kind = "file" if entry.isfile() or entry.islnk() else _kind(entry)
            files[path] = (
                kind,
                entry.mode & 0o7777,
                entry.uid,
                entry.gid,
                content,
                entry.linkname if entry.issym() else "",
            )
    return Made(_seen(files), _config(facts["Config"]))


def _kind(entry: tarfile.TarInfo) -> str:
    return "dir" if entry.isdir() else "symlink" if entry.issym() else "fifo" if entry.isfifo() else "other"


def by_us(outcome: Outcome) -> Made:
    files = {}
    for entry in outcome.root.walk(""):
        content = ""
        if entry.kind == "file":
            with outcome.root.open(entry.path) as handle:
                content = hashlib.sha256(handle.read()).hexdigest()
        mode = 0o777 if entry.kind == "symlink" else stat.S_IMODE(entry.mode)
        files[entry.path] = (
            entry.kind,
            mode,
            entry.uid,
            entry.gid,
            content,
            entry.target if entry.kind == "symlink" else "",
        )
    return Made(_seen(files), _config(dict(outcome.solved.config.config)))


def _seen(files: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {path: facts for path, facts in files.items() if path and not _is_left_out(path)}


def _is_left_out(path: str) -> bool:
    return any(path == item or path.startswith(f"{item}/") for item in _LEFT_OUT)


def _config(config: dict[str, Any]) -> dict[str, Any]:
    found = {name: config[name] for name in _CONFIG if config.get(name)}
    if found.get("WorkingDir") == "/":
        del found["WorkingDir"]
    return found


@pytest.mark.parametrize("name", CASES)
async def test_the_same_as_buildkit(
    name: str, docker: Docker, bench: BuildBench, context: Path, tmp_path: Path
) -> None:
    theirs = await asyncio.to_thread(by_docker, docker, CASES[name], context, tmp_path)
    ours = by_us(await bench.build(CASES[name], context))
    assert ours.config == theirs.config
    for path in set(_STUBS) - set(ours.files):
        theirs.files.pop(path, None)
    assert sorted(ours.files) == sorted(theirs.files)
    assert {path: facts for path, facts in ours.files.items() if facts != theirs.files[path]} == {}


def test_there_are_a_hundred() -> None:
    assert len(CASES) >= 100
    assert subprocess.run(["dockerd", "--version"], capture_output=True, check=False).returncode == 0
