"""Dockerfiles by the grammar: every instruction, flag and form, as a seed says; and ways to damage them."""

from __future__ import annotations

import random

from slipway.build.dockerfile import Dockerfile, DockerfileError
from slipway.build.plan import StageState, lower, plan
from slipway.oci import ImageConfig, Platform

PLATFORM = Platform("linux", "amd64")
_NAMES = ("base", "deps", "build", "test", "Final", "x_1")
_WORDS = (
    "a",
    "b c",
    "$A",
    "${A:-d}",
    "${A:+e}",
    "é",
    "x=y",
    "--flag",
    "'q'",
    '"r"',
    "a\\ b",
    "${A#x}",
    "${A/x/y}",
)
_PATHS = ("/app", "app/", ".", "./src", "/etc/x", "$A", "${A:-/d}", "a*", "[ab]?", "/", "d/e/f")
_MOUNTS = (
    "type=bind,target=/m", "target=/m,source=/s,from={stage}", "type=cache,target=/c,sharing=locked,mode=0700",
    "type=cache,target=/c,id=i,uid=1,gid=2,ro", "type=tmpfs,target=/t,size=1m", "type=secret,id=s,required",
    "type=secret,id=s,env=TOKEN", "type=secret,id=s,target=/k,mode=0440", "type=ssh", "type=ssh,id=k,required=true",
    '"type=bind","target=/q"',
)  # fmt: skip
_DAMAGE = (
    "\x00", "\n", "\\", "\\\n", "$", "${", "}", "<<E", "<<", '"', "'", "[", "]", "#", "FROM ", "RUN ", "--", "=", ",",
    "ONBUILD ", "\t", "\r", "\ufeff", "\u2028", "\ud800", "%", ":-", "//", "\x1b[0m", "COPY --from=", " AS ",
)  # fmt: skip


class Generator:
    """Valid Dockerfiles; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._stages: list[str] = []

    def dockerfile(self) -> str:
        self._stages = []
        pick = self._random
        head = pick.choice(
            ("", "# syntax=docker/dockerfile:1\n", "# escape=`\n", "# check=skip=all\n", "# a comment\n")
        )
        self._escape = "`" if "escape" in head else "\\"
        lines = [
            f"ARG {pick.choice(('V', 'V=1', 'V=1 W=$V', 'A=busybox'))}" for _ in range(pick.randrange(3))
        ]
        for _ in range(pick.randint(1, 4)):
            lines += self._stage()
        return head + "\n".join(self._laid_out(line) for line in lines) + pick.choice(("", "\n", "\n\n"))

    def _stage(self) -> list[str]:
        pick = self._random
        base = pick.choice(["busybox", "scratch", "a.b/c:1", *self._stages])
        flag = pick.choice(("", "", "--platform=linux/amd64 ", "--platform=$BUILDPLATFORM "))
        name = f"{pick.choice(_NAMES)}{len(self._stages)}"
        lines = [f"{self._case('FROM')} {flag}{base} {self._case('AS')} {name}"]
        kinds = (
            self._run, self._copy, self._add, self._env, self._label, self._arg, self._workdir, self._user,
            self._expose, self._volume, self._command, self._health, self._shell, self._stop, self._onbuild,
            self._maintainer,
        )  # fmt: skip
        lines += [pick.choice(kinds)() for _ in range(pick.randrange(9))]
        self._stages.append(name)
        return lines

    def _run(self) -> str:
        pick = self._random
        flags = [
            f"--mount={pick.choice(_MOUNTS).format(stage=self._other())}" for _ in range(pick.randrange(3))
        ]
        flags += pick.choice(([], ["--network=none"], ["--network=host"], ["--security=insecure"]))
        head = " ".join([self._case("RUN"), *flags])
        form = pick.randrange(5)
        if form == 0:
            return f'{head} ["sh", "-c", "echo {pick.choice(("a", "b"))}"]'
        if form == 1:
            return f"{head} <<EOF\n{pick.choice(('echo 1', '#!/bin/sh', 'RUN x', ''))}\nEOF"
        if form == 2:
            return f"{head} <<-'A' cat <<B\n\tone\n\tA\ntwo\nB"
        if form == 3:
            return f"{head} echo {self._words()} {self._escape}\n  # a comment\n\n && true"
        return f"{head} echo {self._words()}"

    def _copy(self) -> str:
        pick = self._random
        flags = self._some(
            "--chown=1:2", "--chown=$A", "--chmod=755", "--chmod=u=rwX,go=rX", "--link", "--parents", "--exclude=*.md",
            f"--from={self._other()}", "--from=a.b/c:1",
        )  # fmt: skip
        if pick.randrange(5) == 0:
            return f"{self._case('COPY')} <<'ONE' <<TWO /d/\n$not\nONE\n$A\nTWO"
        if pick.randrange(3) == 0:
            return f'{self._case("COPY")} {flags}["{pick.choice(_PATHS[:5])}", "/to dir/"]'
        return f"{self._case('COPY')} {flags}{pick.choice(_PATHS)} {pick.choice(_PATHS)} /d/"

    def _add(self) -> str:
        source = self._random.choice(
            ("https://e.org/x.tar.gz", "https://e.org/r.git#v1:sub", "git@e.org:a/b.git", "a.tar", "a*")
        )
        flags = self._some("--chown=1:2", "--chmod=0644", "--link", "--keep-git-dir=true", "--exclude=x")
        return f"{self._case('ADD')} {flags}{source} /d/"

    def _env(self) -> str:
        return f"{self._case('ENV')} " + self._random.choice(
            (
                "A=1 B=$A",
                "A one two",
                "A=\"x y\" C='$A'",
                "A=${A:-1} B=${A:+2}",
                "PATH=/x:$PATH",
                f"A=a{self._escape} b",
            )
        )

    def _label(self) -> str:
        return f"{self._case('LABEL')} " + self._random.choice(
            ("a=b", '"a b"="c d"', "a b c", "x.y=$A z='1'")
        )

    def _arg(self) -> str:
        return f"{self._case('ARG')} " + self._random.choice(
            ("A", "A=1", "A=1 B=${A}x", "V", "TARGETARCH", 'C="d e"')
        )

    def _workdir(self) -> str:
        return f"{self._case('WORKDIR')} " + self._random.choice(("/a", "b", "/a b", "$A/x", "/${A:-y}"))

    def _user(self) -> str:
        return f"{self._case('USER')} " + self._random.choice(("root", "1:2", "a:b", "${A:-me}"))

    def _expose(self) -> str:
        return f"{self._case('EXPOSE')} " + self._random.choice(
            ("80", "53/udp 80/tcp", "8000-8010", "${A:-80}")
        )

    def _volume(self) -> str:
        return f"{self._case('VOLUME')} " + self._random.choice(("/v", '["/v", "/w x"]', "/a /b"))

    def _command(self) -> str:
        word = self._case(self._random.choice(("CMD", "ENTRYPOINT")))
        return f"{word} " + self._random.choice(
            ('["a", "b"]', "a b $C", "[ -e x ] && y", '["a", "\\u00e9"]', "[]")
        )

    def _health(self) -> str:
        flags = self._some(
            "--interval=5s", "--timeout=1m30s", "--retries=3", "--start-period=1h", "--start-interval=2s"
        )
        return f"{self._case('HEALTHCHECK')} " + self._random.choice(
            ("NONE", f"{flags}CMD true", f'{flags}CMD ["t"]')
        )

    def _shell(self) -> str:
        return f'{self._case("SHELL")} ["/bin/bash", "-eo", "pipefail", "-c"]'

    def _stop(self) -> str:
        return f"{self._case('STOPSIGNAL')} " + self._random.choice(("SIGTERM", "9", "RTMIN+3", "sigkill"))

    def _onbuild(self) -> str:
        inner = (self._run, self._copy, self._env, self._workdir, self._label)
        return f"{self._case('ONBUILD')} {self._random.choice(inner)()}"

    def _maintainer(self) -> str:
        return f"{self._case('MAINTAINER')} somebody <a@b>"

    def _other(self) -> str:
        return self._random.choice([*self._stages, "busybox"])

    def _words(self) -> str:
        return " ".join(self._random.choices(_WORDS, k=self._random.randint(1, 3)))

    def _some(self, *flags: str) -> str:
        chosen = [flag for flag in flags if self._random.random() < 0.2]
        seen: dict[str, str] = {flag.partition("=")[0]: flag for flag in chosen}
        return "".join(f"{flag} " for flag in seen.values())

    def _case(self, word: str) -> str:
        return self._random.choice((word, word, word, word.lower(), word.title()))

    def _laid_out(self, line: str) -> str:
        """Comments, empty lines, white space in front: none of it means anything."""
        front = self._random.choice(("", "", "", "\n", "# comment\n", "  ", "\t"))
        return front + line


def damaged(text: str, seed: int) -> str:
    """``text`` with a few things cut out, put in, doubled or swapped."""
    pick = random.Random(seed)
    for _ in range(pick.randint(1, 6)):
        start = pick.randint(0, len(text))
        end = min(len(text), start + pick.randint(0, 20))
        kind = pick.randrange(5)
        if kind == 0:
            text = text[:start] + text[end:]
        elif kind == 1:
            text = text[:start] + pick.choice(_DAMAGE) + text[start:]
        elif kind == 2:
            text = text[:end] + text[start:end] * pick.randint(1, 3) + text[end:]
        elif kind == 3:
            lines = text.split("\n")
            pick.shuffle(lines)
            text = "\n".join(lines)
        else:
            text = text[:start] + pick.choice(_DAMAGE) * pick.randint(1, 4) + text[end:]
    return text


def carry_out(file: Dockerfile) -> None:
    """Plan every stage and lower every instruction."""
    for stage in file.stages:
        build = plan(file, target=str(stage.index), build_args={"a": "1 2"}, platform=PLATFORM)
        for index, item in build.stages.items():
            state = StageState(ImageConfig(PLATFORM, config={"Env": ["PATH=/bin"]}))
            for instruction in item.instructions:
                try:
                    operation = lower(instruction, state, build, index)
                except DockerfileError as error:
                    check(error)
                    continue
                operation.definition()
                state = getattr(operation, "state", state)


def check(error: DockerfileError) -> None:
    assert error.message.count("\n") >= 2
    assert error.message.startswith(f"{error.context['file']}:{error.context['line']}:")
    assert error.message.split("\n")[-1].strip() == "^"
    assert error.context["line"] >= 1
    assert error.context["column"] >= 1
