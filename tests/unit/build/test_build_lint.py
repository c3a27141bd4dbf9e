"""The build checks: each finds what it is for, and nothing in a file that is fine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.dockerfile import DockerfileError, parse
from slipway.build.ignore import IgnoreFile
from slipway.build.lint import RULES, Subject, lint, refuse
from slipway.errors import Failed
from slipway.oci import Platform

AMD64 = Platform("linux", "amd64")
CLEAN = """# syntax=docker/dockerfile:1
# The version of the base.
ARG VERSION=12
ARG NAME=debian

# built for whoever asks
FROM ${NAME}:${VERSION} AS build
ARG TARGETARCH
ARG PUBLIC_KEY
ENV HOME=/root GOPATH=$HOME/go MONKEY=1
WORKDIR /src
WORKDIR sub
COPY . .
COPY --from=other/image:1 /x ${GOPATH}/x
RUN --mount=type=secret,id=token,env=TOKEN make ${UNKNOWN} \\
    # a comment is no gap
    $OTHER
FROM --platform=$BUILDPLATFORM build AS tool_amd64
WORKDIR relative
EXPOSE 80 443/tcp ${PORT:-8080}
LABEL a=b
HEALTHCHECK NONE
ENTRYPOINT ["/x"]
CMD ["a"]
"""


def rules(text: str, **values: object) -> list[str]:
    subject = Subject(parse(text), platform=AMD64, **values)  # type: ignore[arg-type]
    return [f"{item.rule}:{item.location.line}" for item in lint(subject)]


def test_nothing_in_a_clean_file() -> None:
    assert rules(CLEAN, ignored=IgnoreFile.parse("none\n")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a AS Build", "StageNameCasing:1"),
        ("FROM a as build", "FromAsCasing:1"),
        ("FROM a\nRUN x \\\n\n  y", "NoEmptyContinuation:2"),
        ("FROM a\nRUN x\nrun y", "ConsistentInstructionCasing:3"),
        ("from a\nrun x\nRUN y", "ConsistentInstructionCasing:3"),
        ("FROM a\nRun x", "ConsistentInstructionCasing:2"),
        ("FROM a AS x\nFROM b AS x", "DuplicateStageName:2"),
        ("FROM a AS context", "ReservedStageName:1"),
        ("FROM a\nCMD run it", "JSONArgsRecommended:2"),
        ("FROM a\nENTRYPOINT run it", "JSONArgsRecommended:2"),
        ("FROM a\nMAINTAINER me", "MaintainerDeprecated:2"),
        ("ARG VERSION=1\nFROM a:$VERSIO", "UndefinedArgInFrom:2 InvalidDefaultArgInFrom:2"),
        ("FROM a\nWORKDIR x", "WorkdirRelativePath:2"),
        ("FROM scratch\nCOPY $none /", "UndefinedVar:2"),
        ("FROM a\nENV GOPATH=/go\nCOPY x $GOPAHT/", "UndefinedVar:3"),
        ("FROM a\nCMD [\"a\"]\nCMD [\"b\"]", "MultipleInstructionsDisallowed:2"),
        ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD [\"x\"]", "MultipleInstructionsDisallowed:2"),
        ("FROM a\nENV a b", "LegacyKeyValueFormat:2"),
        ("FROM a\nLABEL a b", "LegacyKeyValueFormat:2"),
        ("FROM --platform=$TARGETPLATFORM a", "RedundantTargetPlatform:1"),
        ("FROM a\nARG AWS_SECRET_ACCESS_KEY\nENV password=1", "SecretsUsedInArgOrEnv:2 SecretsUsedInArgOrEnv:3"),
        ("ARG TAG\nFROM a:$TAG", "InvalidDefaultArgInFrom:2"),
        ("FROM --platform=linux/amd64 a", "FromPlatformFlagConstDisallowed:1"),
        ("FROM a\nCOPY secret/x /", "CopyIgnoredFile:2"),
        ("# check=experimental=all\n\n# wrong words\nFROM a AS build", "InvalidDefinitionDescription:4"),
        ("FROM a\nEXPOSE 80/TCP", "ExposeProtoCasing:2"),
        ("FROM a\nEXPOSE 127.0.0.1:80:80", "ExposeInvalidFormat:2"),
    ],
)  # fmt: skip
def test_each_rule_finds_what_it_is_for(text: str, found: str) -> None:
    assert " ".join(rules(text, ignored=IgnoreFile.parse("secret\n"))) == found


def test_a_base_image_for_another_platform() -> None:
    assert rules("FROM a", platforms={"a": Platform("linux", "arm64")}) == ["InvalidBaseImagePlatform:1"]
    assert rules("FROM a", platforms={"a": AMD64}) == []


@pytest.mark.parametrize(
    "text",
    [
        "FROM --platform=linux/amd64 a AS build_amd64",
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD run it",
        "FROM a\nCOPY $HOME /",  # the base image may have it
        "FROM scratch\nENV a=${b:-1} c='$d' e=\\$f",
        "FROM a AS x\nWORKDIR /a\nFROM x\nWORKDIR b",
        "FROM a\nCOPY --from=b secret/x /\nADD https://e.org/secret /",
        "FROM a\nARG MONKEY_BUSINESS\nENV PUBLIC_KEY=1",
    ],
)  # fmt: skip
def test_what_only_looks_similar(text: str) -> None:
    assert rules(text, ignored=IgnoreFile.parse("secret\n")) == []


def test_rules_are_left_out() -> None:
    text = "FROM a AS Build\nMAINTAINER me"
    assert rules(f"# check=skip=StageNameCasing\n{text}") == ["MaintainerDeprecated:3"]
    assert rules(f"# check=skip=all\n{text}") == []
    assert rules(f"# check=skip=stagenamecasing,MaintainerDeprecated;error=true\n{text}") == []


def test_a_finding_says_where_and_where_to_read_on() -> None:
    (found,) = lint(Subject(parse("FROM a\nCMD x", "Other")))
    assert str(found).startswith("Other:2: JSONArgsRecommended: ")
    assert found.link.endswith("/build-checks/json-args-recommended/")
    with pytest.raises(Failed, match="JSONArgsRecommended"):
        refuse([found])
    refuse([])


def test_there_are_twenty_two() -> None:
    assert len(RULES) == 22


CORPUS = Path(__file__).parent / "corpus"


@given(st.text(alphabet="FROM asAS$\n{}:-/=abARGENVCOPYWORKDIR#\\\"'80tcp ", max_size=200))
def test_no_file_breaks_a_rule(text: str) -> None:
    try:
        subject = Subject(parse(f"FROM a\n{text}"), ignored=IgnoreFile.parse("a*\n"))
    except DockerfileError:
        return
    assert all(item.rule in RULES for item in lint(subject))


@pytest.mark.parametrize("path", sorted(CORPUS.rglob("*Dockerfile*")), ids=lambda path: path.name)
def test_files_of_others_are_looked_at(path: Path) -> None:
    try:
        subject = Subject(parse(path.read_bytes()))
    except DockerfileError:
        return
    assert all(str(item) for item in lint(subject))
