"""Instances are divided by weight: all of them, one at least, and with no surprise when something changes a little."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.engines.spread.shares import shares

NAMES = ("east", "north", "south", "west")
weights_of = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 50), min_size=1)
totals = st.integers(0, 60)
patient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
salts = st.sampled_from(("", "demo/shop/web", "demo/other/api"))


@pytest.mark.parametrize(
    ("total", "weights", "found"),
    [
        (4, {"east": 3, "west": 1}, {"east": 3, "west": 1}),
        (8, {"east": 3, "west": 1}, {"east": 6, "west": 2}),
        (2, {"east": 1000, "west": 1}, {"east": 1, "west": 1}),
        (1, {"east": 1, "west": 1}, {"east": 1, "west": 1}),
        (0, {"east": 1, "west": 1}, {"east": 0, "west": 0}),
        (5, {"east": 1, "west": 0}, {"east": 5, "west": 0}),
        (5, {"west": 0}, {"west": 0}),
        (10, {"east": 5, "north": 3, "west": 2}, {"east": 5, "north": 3, "west": 2}),
    ],
)
def test_examples(total: int, weights: Mapping[str, int], found: Mapping[str, int]) -> None:
    assert shares(total, weights) == found


@patient
@given(totals, weights_of, salts)
def test_all_are_given_and_everybody_has_one(total: int, weights: dict[str, int], salt: str) -> None:
    found = shares(total, weights, salt)
    used = [name for name, weight in weights.items() if weight]
    assert found.keys() == weights.keys()
    assert sum(found.values()) == (max(total, len(used)) if total and used else 0)
    assert all((found[name] > 0) == (total > 0 and weight > 0) for name, weight in weights.items())
    turned = dict(reversed(weights.items()))
    assert shares(total, turned, salt) == found, "the order in which they are named means nothing"


@patient
@given(st.integers(1, 20), weights_of)
def test_what_divides_exactly_is_divided_exactly(times: int, weights: dict[str, int]) -> None:
    assert shares(times * sum(weights.values()), weights) == {
        name: times * weight for name, weight in weights.items()
    }


@patient
@given(totals, weights_of, salts)
def test_one_more_instance_is_one_more_somewhere(total: int, weights: dict[str, int], salt: str) -> None:
    before, after = shares(total, weights, salt), shares(total + 1, weights, salt)
    assert all(after[name] >= before[name] for name in weights)


@patient
@given(totals, weights_of, salts, st.sampled_from(NAMES), st.integers(1, 20))
def test_a_greater_weight_never_means_less(
    total: int, weights: dict[str, int], salt: str, name: str, more: int
) -> None:
    if not weights.get(name):
        return
    before = shares(total, weights, salt)
    after = shares(total, {**weights, name: weights[name] + more}, salt)
    assert after[name] >= before[name]
    assert all(after[other] <= before[other] for other in weights if other != name)


@patient
@given(totals, weights_of, salts, st.sampled_from(NAMES))
def test_when_one_fails_nobody_else_loses(total: int, weights: dict[str, int], salt: str, name: str) -> None:
    before = shares(total, weights, salt)
    after = shares(total, {key: value for key, value in weights.items() if key != name}, salt)
    assert all(after[other] >= before[other] for other in after)
