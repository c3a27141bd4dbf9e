"""Thousands of Dockerfiles that the grammar makes, and as many damaged ones, through parser, checks and planner."""

from __future__ import annotations

from collections import Counter

import pytest

from slipway.build.dockerfile import DockerfileError, parse
from slipway.build.lint import Subject, lint
from slipway.errors import Invalid
from slipway.testing.dockerfiles import PLATFORM, Generator, carry_out, check, damaged

FEW, MANY = 400, 10_000


def _through(text: str) -> str:
    """What became of it. Anything but the language's own error fails the test."""
    try:
        found = parse(text)
        lint(Subject(found, {}, PLATFORM, None))
        carry_out(found)
    except DockerfileError as error:
        check(error)
        return "refused"
    except Invalid:
        return "refused"
    return "fine"


def _generated(count: int) -> None:
    words: Counter[str] = Counter()
    for seed in range(count):
        text = Generator(seed).dockerfile()
        found = parse(text)  # what the grammar makes is valid
        assert parse(text) == found
        words.update(type(item).__name__ for stage in found.stages for item in stage.instructions)
        _through(text)
    # The generator reaches the whole language.
    assert len(words) >= 16
    assert min(words.values()) > count / 100


def _damaged(count: int) -> None:
    found = Counter(_through(damaged(Generator(seed).dockerfile(), seed)) for seed in range(count))
    assert found["refused"] > count / 10
    assert found["fine"] > count / 100


def test_a_few_that_are_valid() -> None:
    _generated(FEW)


def test_a_few_that_are_damaged() -> None:
    _damaged(FEW)


@pytest.mark.slow
def test_ten_thousand_that_are_valid() -> None:
    _generated(MANY)


@pytest.mark.slow
def test_ten_thousand_that_are_damaged() -> None:
    _damaged(MANY)


def test_the_generator_is_the_same_every_time() -> None:
    assert Generator(7).dockerfile() == Generator(7).dockerfile()
    assert damaged("FROM a\n", 3) == damaged("FROM a\n", 3)
