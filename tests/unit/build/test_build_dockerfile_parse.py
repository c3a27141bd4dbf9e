"""The parser: lines, directives, flags, every instruction, and the place of each mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.build import dockerfile as df
from slipway.build.dockerfile import DeviceRequest, Dockerfile, DockerfileError, Instruction, parse

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))


def one(text: str, head: str = "FROM scratch\n") -> Any:
    """The only instruction of ``text``."""
    (found,) = parse(head + text).stages[-1].instructions
    return found


def error(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


# Lines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN a \\\n b", ("a  b",)),
        ("RUN a\\\nb", ("ab",)),
        ("RUN a \\  \n b", ("a  b",)),  # white space behind the escape
        ("RUN a \\\n# a comment\n  # another\n b", ("a  b",)),
        ("RUN a \\\n\n b", ("a  b",)),  # an empty line inside
        ("RUN a \\\\\n", ("a \\\\",)),  # a doubled escape continues nothing
        ("RUN a \\", ("a",)),  # ... and the file may end there
        ("RUN a # no comment", ("a # no comment",)),
        ("run a", ("a",)),
        ("  RUN\ta", ("a",)),
        ("RUN a \\\r\n b\r\n", ("a  b",)),
    ],
)
def test_lines_are_joined(text: str, words: tuple[str, ...]) -> None:
    assert one(text).words == words


def test_an_empty_line_in_a_continuation_is_noted() -> None:
    assert [place.line for place in parse("FROM a\nRUN a \\\n\n b").gaps] == [2]


def test_the_escape_directive_changes_what_continues() -> None:
    found = parse("# escape=`\nFROM a\nRUN a `\n b\\\n").stages[0].instructions[0]
    assert isinstance(found, df.Run)
    assert found.words == ("a  b\\",)


@pytest.mark.parametrize(
    ("text", "escape", "syntax"),
    [
        ("# escape=`\n", "`", ""),
        ("#ESCAPE = `\n#syntax=docker/dockerfile:1\n", "`", "docker/dockerfile:1"),
        ("\ufeff# syntax=x\n", "\\", "x"),
        ("# a comment\n# escape=`\n", "\\", ""),
        ("\n# escape=`\n", "\\", ""),
        ("# unknown=1\n# escape=`\n", "\\", ""),
        ("# escape=`\r\n", "`", ""),
    ],
)
def test_directives_stand_at_the_top_only(text: str, escape: str, syntax: str) -> None:
    found = parse(text + "FROM a").directives
    assert (found.escape, found.syntax) == (escape, syntax)


def test_check_directive() -> None:
    found = parse("# check=skip=A, B;error=true\nFROM a").directives.check
    assert found == df.Check(("A", "B"), True)


def test_bytes_that_are_no_text_are_allowed_in_comments_only() -> None:
    assert parse(b"FROM a\n# \xff\nRUN b").stages[0].instructions
    with pytest.raises(DockerfileError, match="Dockerfile:2:1: the instruction is not UTF-8"):
        parse(b"FROM a\nRUN \xff")
    with pytest.raises(DockerfileError, match="NUL"):
        parse("FROM a\nRUN a\0b")


# Heredocs


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("RUN <<EOF\na\nEOF", [("EOF", "a\n", True, False)]),
        ("RUN <<-EOF\n\ta\n\tEOF", [("EOF", "\ta\n", True, True)]),
        ("RUN <<'EOF'\n$a\nEOF", [("EOF", "$a\n", False, False)]),
        ('RUN <<"EOF"\n$a\nEOF', [("EOF", "$a\n", False, False)]),
        ("RUN cat <<A <<B\na\nA\nb\nB", [("A", "a\n", True, False), ("B", "b\n", True, False)]),
        ("RUN cat <<EOF>out\na\nEOF", [("EOF", "a\n", True, False)]),
        ("RUN cat 3<<EOF | sort\nEOF", [("EOF", "", True, False)]),
        ("RUN <<EOF\n EOF\n# no comment\n\\\nEOF", [("EOF", " EOF\n# no comment\n\\\n", True, False)]),
        ("COPY <<a.txt /\nx\r\na.txt", [("a.txt", "x\r\n", True, False)]),
        ("ONBUILD RUN <<EOF\na\nEOF", []),
        ("RUN echo '<<EOF'", []),
        ("RUN cat <<<EOF", []),
        ("RUN echo $((1<<2))", []),
        ('RUN ["cat", "<<EOF"]', []),
        ("CMD cat <<EOF", []),
    ],
)
def test_heredocs(text: str, documents: list[tuple[str, str, bool, bool]]) -> None:
    found = getattr(one(text), "heredocs", ())
    assert [(item.name, item.content, item.expand, item.strip) for item in found] == documents


def test_an_onbuild_heredoc_is_kept_with_its_trigger() -> None:
    found = one("ONBUILD RUN <<EOF\nhello\nEOF")
    assert found.trigger == "RUN <<EOF\nhello\nEOF"
    assert found.instruction.heredocs[0].content == "hello\n"
    assert one(found.trigger).heredocs == found.instruction.heredocs


def test_stripping_takes_tabs_only() -> None:
    assert one("RUN <<-E\n\t\ta\n\t b\n  c\n\tE").heredocs[0].text == "a\n b\n  c\n"


# Instructions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN a b", {"words": ("a b",), "exec_form": False}),
        ('RUN ["a", "b c"]', {"words": ("a", "b c"), "exec_form": True}),
        ("RUN ['a']", {"words": ("['a']",), "exec_form": False}),  # no JSON: shell
        ("RUN [ -f x ]", {"words": ("[ -f x ]",), "exec_form": False}),
        ("RUN --network=none --security=insecure a", {"network": "none", "security": "insecure"}),
        (
            "RUN --device=a.b/c=d,required --device=name=x/y=*,required=false --device=/dev/kvm x",
            {
                "devices": (
                    DeviceRequest("a.b/c=d", True), DeviceRequest("x/y=*"), DeviceRequest("/dev/kvm"),
                )
            },
        ),
        ("RUN -- --x", {"words": ("--x",)}),
        ("CMD []", {"words": (), "exec_form": True}),
        ("CMD", {"words": (), "exec_form": False}),
        ("ENV a=1 b='2 3' c=\"4\" d=5\\ 6", {"pairs": (("a", "1"), ("b", "'2 3'"), ("c", '"4"'), ("d", "5\\ 6"))}),
        ("ENV a b c=d", {"pairs": (("a", "b c=d"),)}),
        ("ENV a=", {"pairs": (("a", ""),)}),
        ("ENV a=b=c", {"pairs": (("a", "b=c"),)}),
        ('LABEL "a b"="c"', {"pairs": (('"a b"', '"c"'),)}),
        ("ARG a b= c=1", {"pairs": (("a", None), ("b", ""), ("c", "1"))}),
        ("COPY a b c/", {"sources": ("a", "b"), "dest": "c/", "is_add": False}),
        ('COPY ["a b", "c"]', {"sources": ("a b",), "dest": "c"}),
        ("COPY --from=x --chown=u:g --chmod=755 --link --parents a b",
         {"from_": "x", "chown": "u:g", "chmod": "755", "link": True, "parents": True}),
        ("COPY --exclude=*.md --exclude=x a b", {"exclude": ("*.md", "x")}),
        ("COPY --link=false a b", {"link": False}),
        ("COPY --chown='a b' x y", {"chown": "a b"}),
        ("ADD --checksum=sha256:a --keep-git-dir --unpack=false a b",
         {"is_add": True, "checksum": "sha256:a", "keep_git_dir": True, "unpack": False}),
        ("ADD a b", {"unpack": None}),
        ("WORKDIR /a b", {"path": "/a b"}),
        ("USER a:b", {"user": "a:b"}),
        ("EXPOSE 80  443/udp", {"ports": ("80", "443/udp")}),
        ('VOLUME ["/a b"]', {"paths": ("/a b",)}),
        ("VOLUME /a /b", {"paths": ("/a", "/b")}),
        ("STOPSIGNAL SIGTERM", {"signal": "SIGTERM"}),
        ('SHELL ["/bin/bash", "-c"]', {"words": ("/bin/bash", "-c")}),
        ("HEALTHCHECK NONE", {"test": ()}),
        ("HEALTHCHECK --interval=1m30s --timeout=.5s --start-period=0 --start-interval=5ms --retries=3 CMD a b",
         {"test": ("a b",), "exec_form": False, "interval": 90 * 10**9, "timeout": 5 * 10**8, "start_period": 0,
          "start_interval": 5 * 10**6, "retries": 3}),
        ("HEALTHCHECK CMD\ta\tb", {"test": ("a\tb",)}),
        ('HEALTHCHECK CMD ["a", "b"]', {"test": ("a", "b"), "exec_form": True}),
        ("ONBUILD RUN a", {"trigger": "RUN a"}),
        ("MAINTAINER a <b>", {"author": "a <b>"}),
    ],
)  # fmt: skip
def test_instructions(text: str, expected: dict[str, Any]) -> None:
    found = one(text)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "base", "name", "platform"),
    [
        ("FROM a", "a", "", ""),
        ("FROM a:1@sha256:b AS Build-1.x", "a:1@sha256:b", "build-1.x", ""),
        ("from --platform=$BUILDPLATFORM a as b", "a", "b", "$BUILDPLATFORM"),
    ],
)
def test_from(text: str, base: str, name: str, platform: str) -> None:
    found = parse(text).stages[0]
    assert (found.source.base, found.name, found.source.platform) == (base, name, platform)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/a", df.BindMount("/a")),
        ("type=bind,dst=/a,src=b,from=c,rw", df.BindMount("/a", "b", "c", True)),
        ("type=cache,target=/a", df.CacheMount("/a", "/a")),
        ("TYPE=cache,id=x,destination=/a,sharing=locked,ro,mode=0700,uid=1,gid=2",
         df.CacheMount("/a", "x", "locked", "", "/", 0o700, 1, 2, True)),
        ("type=tmpfs,target=/a,size=64m", df.TmpfsMount("/a", 64 << 20)),
        ("type=secret,id=x", df.SecretMount("x", "/run/secrets/x")),
        ("type=secret,id=x,env=X,required", df.SecretMount("x", "", "X", True)),
        ("type=secret,target=/etc/key,mode=0440", df.SecretMount("key", "/etc/key", mode=0o440)),
        ("type=ssh", df.SshMount()),
        ("type=ssh,id=x,required=true,target=/s", df.SshMount("x", "/s", True)),
        ('type=bind,target=/a,"source=b,c"', df.BindMount("/a", "b,c")),
    ],
)  # fmt: skip
def test_mounts(text: str, mount: df.Mount) -> None:
    run = one(f"RUN --mount={text} true" if '"' not in text else f"RUN --mount='{text}' true")
    (found,) = run.mounts
    assert found.typed(str, AssertionError) == mount


# Mistakes


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("", "1:1", "there is no FROM", "FROM debian"),
        ("# only\n", "1:1", "there is no FROM", ""),
        ("RUN a", "1:1", "RUN stands before the first FROM", "ARG"),
        ("FROM a\n\n  RNU b", "3:3", "unknown instruction: RNU; did you mean RUN?", "RUN"),
        ("FROM a\nCOPPY b c", "2:1", "did you mean COPY?", "COPY"),
        ("FROM a\nXYZZY", "2:1", "unknown instruction: XYZZY", "one of FROM"),
        ("FROM a b", "1:8", "FROM takes one image", "AS build"),
        ("FROM a AS 1b", "1:11", "not a stage name: 1b", "letter first"),
        ("FROM", "1:1", "FROM needs an argument", ""),
        ("FROM a\nRUN", "2:1", "RUN needs an argument", ""),
        ("FROM a\nRUN []", "2:1", "RUN needs a command", ""),
        ("FROM a\nRUN [1]", "2:5", "only strings", "quote"),
        ('FROM a\nRUN ["\\ud800"]', "2:5", "an escape that is no character", ""),
        ("FROM a\nRUN --netwrok=none b", "2:5", "RUN has no flag --netwrok", "did you mean --network?"),
        ("FROM a\nRUN --network=bridge b", "2:15", "not a network: bridge", "none or host"),
        ("FROM a\nCOPY --link --link b c", "2:6", "--link is given twice", ""),
        ("FROM a\nCOPY --link=x b c", "2:6", "--link is true or false", ""),
        ("FROM a\nCOPY --from b c", "2:6", "--from needs a value", "--from=VALUE"),
        ("FROM a\nCOPY --parent b c", "2:6", "COPY has no flag --parent", "--parents"),
        ("FROM a\nADD --from=b c d", "2:5", "ADD has no flag --from", ""),
        ("FROM a\nCMD --foo", "2:5", "CMD has no flag --foo", "'-- '"),
        ("FROM a\nCOPY b", "2:1", "COPY needs a source and a destination", ""),
        ("FROM a\nCOPY b <<E\nE", "2:8", "heredoc cannot be the destination", "last"),
        ("FROM a\nRUN cat \\\n <<EOF\nb", "3:4", "heredoc <<EOF is not closed", "a line that says EOF"),
        ("FROM a\nENV b", "2:5", "ENV needs a value for b", "NAME=VALUE"),
        ("FROM a\nENV b=c \\\n  d e=f", "3:3", "not NAME=VALUE: d", "quote"),
        ("FROM a\nENV =b", "2:5", "ENV needs a name", ""),
        ("FROM a\nARG =b", "2:5", "ARG needs a name", ""),
        ("FROM a\nSHELL /bin/sh", "2:7", "SHELL needs a JSON array", "/bin/bash"),
        ("FROM a\nONBUILD ONBUILD RUN a", "2:1", "ONBUILD is not allowed in ONBUILD", ""),
        ("FROM a\nONBUILD FROM b", "2:9", "FROM is not allowed in ONBUILD", ""),
        ("FROM a\nONBUILD RNU b", "2:9", "unknown instruction: RNU; did you mean RUN?", ""),
        ("FROM a\nHEALTHCHECK curl x", "2:13", "HEALTHCHECK takes NONE alone, or CMD", ""),
        ("FROM a\nHEALTHCHECK --interval=30 CMD a", "2:24", "not a duration: '30'", "--interval=30s"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD a", "2:24", "less than 1ms", ""),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD a", "2:23", "not a number of retries", ""),
        ("FROM a\nHEALTHCHECK NONE a", "2:13", "NONE alone", ""),
        ("FROM a\nVOLUME []", "2:1", "VOLUME needs paths", ""),
        ("FROM a\nRUN --mount=type=bnd,target=/a b", "2:18", "not a mount type: 'bnd'", "did you mean bind?"),
        ("FROM a\nRUN --mount=type=cache b", "2:5", "a cache mount needs a target", "target="),
        ("FROM a\nRUN --mount=tagret=/a b", "2:13", "a mount has no 'tagret'", "target"),
        ("FROM a\nRUN --mount=target=/a,from=$x b", "2:23", "from= takes no variable", "AS name"),
        ("FROM a\nRUN --mount=type=tmpfs,target=/a,size=x b", "2:34", "not a size", "64m"),
        ("FROM a\nRUN --mount=type=bind,target=/a,sharing=locked b", "2:33", "a bind mount has no 'sharing'", ""),
        ("FROM a\nRUN --mount=target b", "2:13", "'target' needs a value", ""),
        ("FROM a\nRUN --mount=target=/a,dst=/b c", "2:23", "'target' twice", ""),
        ("FROM a\nRUN --mount=target=/a,ro,rw c", "2:1", "readonly or readwrite, not both", ""),
        ("FROM a\nRUN --mount=type=cache,target=/a,mode=9 c", "2:34", "not a mode: '9'", ""),
        ("# escape=x\nFROM a", "1:10", "not an escape character: 'x'", "use"),
        ("# escape=`\n# escape=`\nFROM a", "2:3", "'escape' is given twice", ""),
        ("# check=foo\nFROM a", "1:9", "not a check option", "skip="),
    ],
)  # fmt: skip
def test_mistakes_have_a_place_a_caret_and_a_hint(text: str, place: str, message: str, hint: str) -> None:
    found = error(text)
    first, source, caret = found.message.split("\n")
    assert first.startswith(f"Dockerfile:{place}: ")
    assert message in first
    assert hint in found.hint
    line, column = (int(part) for part in place.split(":"))
    assert source[2:] == ("" if message == "there is no FROM" else text.split("\n")[line - 1])
    assert caret == " " * (column + 1) + "^"
    assert found.context == {"file": "Dockerfile", "line": line, "column": column}


def test_the_caret_stays_near_in_a_long_line() -> None:
    shown = error("FROM a\nENV " + "x=1 " * 2000 + "oops y=2").message.split("\n")
    assert shown[0].startswith("Dockerfile:2:8005: not NAME=VALUE: oops")
    assert shown[1][shown[2].index("^") :].startswith("oops")
    assert len(shown[1]) < 200


def test_what_is_odd_is_warned_of() -> None:
    (found,) = parse("FROM a AS x\nCMD ['a']\nFROM b AS X").warnings
    assert found.startswith("Dockerfile:2: ")
    assert "double quotes" in found


# The corpus


def without_places(file: Dockerfile) -> list[list[Instruction]]:
    return [[_stripped(item) for item in (stage.source, *stage.instructions)] for stage in file.stages]


def _stripped(item: Instruction) -> Instruction:
    found = replace(item, location=df.Location("", 0, 0, ""), original="")
    return (
        replace(found, instruction=_stripped(found.instruction)) if isinstance(found, df.Onbuild) else found
    )


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_corpus_parses_with_any_line_ends(path: Path) -> None:
    data = path.read_bytes()
    found = parse(data, path.name)
    assert found.stages
    assert all(
        item.location.line <= item.location.end for stage in found.stages for item in stage.instructions
    )
    if b"<<" not in data:
        assert without_places(parse(data.replace(b"\n", b"\r\n"))) == without_places(found)


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) >= 8
