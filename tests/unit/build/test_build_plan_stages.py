"""Which stages are needed, in which order, on what."""

from __future__ import annotations

import pytest

from slipway.build.dockerfile import DockerfileError, parse
from slipway.build.plan import BuildPlan, plan
from slipway.errors import Invalid, NotFound
from slipway.oci import Digest, Platform, Reference

AMD = Platform("linux", "amd64")
DIGEST = Digest.parse("sha256:" + "a" * 64)


def planned(text: str, target: str | None = None, **args: str) -> BuildPlan:
    return plan(parse(text), target=target, build_args=args, platform=AMD)


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("FROM a", None, [0]),
        ("FROM a\nFROM b\nFROM c", None, [2]),
        ("FROM a AS x\nFROM b\nFROM X", None, [0, 2]),
        ("FROM a AS x\nFROM b AS y\nFROM c\nCOPY --from=x a b", None, [0, 2]),
        ("FROM a AS x\nFROM b AS y\nFROM c\nCOPY --from=0 a b\nCOPY --from=Y a b", None, [0, 1, 2]),
        ("FROM a AS x\nFROM x AS y\nFROM y AS z\nFROM d", "z", [0, 1, 2]),
        ("FROM a AS x\nFROM b AS y", "X", [0]),
        ("FROM a AS x\nFROM b AS y", "0", [0]),
        ("FROM a\nCOPY --from=image a b", None, [0]),
        ("FROM a AS x\nFROM b\nRUN --mount=from=x,target=/m c", None, [0, 1]),
        ("FROM a AS x\nFROM b AS x\nFROM x", None, [1, 2]),  # the latest of one name
        ("FROM a AS x\nFROM b\nCOPY --from=x a b\nFROM c AS x", "1", [0, 1]),  # ... before the one that asks
        ("FROM a AS x\nFROM b AS y\nONBUILD COPY --from=x a b\nFROM y", None, [0, 1, 2]),
    ],
)
def test_needed_stages(text: str, target: str | None, expected: list[int]) -> None:
    build = planned(text, target)
    assert list(build.stages) == expected
    assert build.target == expected[-1]
    for index, stage in build.stages.items():
        assert all(other < index and other in build.stages for other in stage.depends_on)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("FROM scratch", None),
        ("FROM debian", Reference("debian")),
        (f"FROM r.io/a/b:1@{DIGEST}", Reference("a/b", "r.io", "1", DIGEST)),
        ("ARG b=debian\nARG t\nFROM $b:${t:-12}", Reference("debian", tag="12")),
        ("ARG b=x\nFROM a AS x\nFROM $b", 0),
        ("FROM a AS a\nFROM a", 0),  # a stage hides the image
        ("FROM 0", Reference("0")),  # FROM knows names only
    ],
)
def test_bases(text: str, base: object) -> None:
    build = planned(text)
    assert build.stages[build.target].base == base


def test_a_build_argument_chooses_the_base() -> None:
    assert planned("ARG b=one\nFROM $b", b="two").stages[0].base == Reference("two")
    assert planned("ARG b\nFROM ${b:-one}").stages[0].base == Reference("one")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("", "linux/amd64"),
        ("--platform=linux/arm64 ", "linux/arm64"),
        ("--platform=$TARGETPLATFORM ", "linux/amd64"),
        ("--platform=$BUILDPLATFORM ", str(Platform.host())),
        ("--platform=linux/${arch} ", "linux/s390x"),
    ],
)
def test_platforms(flag: str, expected: str) -> None:
    found = planned(f"ARG arch=s390x\nFROM {flag}a").stages[0]
    assert str(found.platform) == expected
    assert found.source.platform == (expected if flag else "")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("FROM $x", "1:6", "the image '$x' is empty"),
        ("ARG x=A\nFROM $x", "2:6", "not an image name"),
        ("FROM a:", "1:6", "not an image reference"),
        ("FROM ${x:?which}", "1:6", "x: which"),
        ("FROM --platform=a/b/c/d e", "1:6", "not a platform"),
        ("FROM a\nCOPY --from=0 a b", "2:13", "cannot copy from itself"),
        ("FROM a AS x\nCOPY --from=x a b", "2:13", "cannot copy from itself"),
        ("FROM a\nCOPY --from=y a b\nFROM b AS y\nFROM 0x0", "2:13", "which comes later"),
        ("FROM a\nCOPY --from=7 a b", "2:13", "there is no stage 7"),
        ("FROM a\nCOPY --from=$x a b", "2:13", "takes no variable"),
    ],
)
def test_mistakes(text: str, place: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        planned(text, "0")
    assert caught.value.message.startswith(f"Dockerfile:{place}: ")
    assert message in caught.value.message


def test_what_nobody_needs_may_be_wrong() -> None:
    assert list(planned("FROM $nothing\nCOPY --from=9 a b\nFROM b").stages) == [1]


def test_an_unknown_target_suggests_one() -> None:
    with pytest.raises(NotFound) as caught:
        planned("FROM a AS build\nFROM b AS test", "biuld")
    assert caught.value.hint == "did you mean 'build'?"
    for target in ("2", "²", "-1", "9" * 5000):
        with pytest.raises(NotFound):
            planned("FROM a\nFROM b", target)


def test_unused_build_arguments_are_warned_of() -> None:
    build = planned(
        "ARG g\nFROM a\nARG s\nFROM b", g="1", s="1", HTTP_PROXY="1", TARGETARCH="1", SOURCE_DATE_EPOCH="1",
        BUILDKIT_INLINE_CACHE="1", typo="1",
    )  # fmt: skip
    assert build.warnings == ("build arguments that no ARG declares: typo",)


@pytest.mark.parametrize("name", ["", "a=b", "a\0", "\ud800"])
def test_build_arguments_have_names(name: str) -> None:
    with pytest.raises(Invalid, match="not a build argument"):
        plan(parse("FROM a"), target=None, build_args={name: ""}, platform=AMD)
