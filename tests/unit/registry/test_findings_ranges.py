"""Which versions a record means: the evaluation algorithm of the schema."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slipway.registry.findings.advisories import Affected, Event, Range
from slipway.registry.findings.ranges import first_fixed, is_affected
from slipway.registry.findings.versions import dpkg, pep440, semver


def affected(*events: str, kind: str = "ECOSYSTEM", versions: tuple[str, ...] = ()) -> Affected:
    """``affected("introduced 0", "fixed 1.2")``."""
    made = tuple(Event(*event.split(" ")) for event in events)
    return Affected("PyPI", "x", (Range(kind, made),) if made else (), frozenset(versions))


def meant(entry: Affected, *versions: str) -> list[str]:
    return [version for version in versions if is_affected(version, [entry], pep440.key)]


@pytest.mark.parametrize(
    ("events", "versions"),
    [
        (["introduced 0"], ["0", "0.0.dev1", "1.0", "2.0", "3.0"]),
        (["introduced 0", "fixed 2.0"], ["0", "0.0.dev1", "1.0"]),
        (["introduced 1.0", "last_affected 2.0"], ["1.0", "2.0"]),
        (["introduced 1.0", "fixed 1.5", "introduced 2.0", "fixed 3.0"], ["1.0", "2.0"]),
        (["fixed 3.0", "introduced 2.0", "fixed 1.5", "introduced 1.0"], ["1.0", "2.0"]),
        (["introduced 0", "limit 2.0"], ["0", "0.0.dev1", "1.0"]),
        (["introduced 0", "limit 1.0", "limit *"], ["0", "0.0.dev1", "1.0", "2.0", "3.0"]),
        (["introduced 2.0", "fixed 2.0"], []),
        (["introduced 1.0", "fixed 2.0", "introduced 2.0", "fixed 3.0"], ["1.0", "2.0"]),
        (["last_affected 2.0", "introduced 2.0"], ["2.0"]),
        (["fixed 2.0"], []),
        (["introduced 1"], ["1.0", "2.0", "3.0"]),
    ],
)
def test_events(events: list[str], versions: list[str]) -> None:
    assert meant(affected(*events), "0", "0.0.dev1", "1.0", "2.0", "3.0") == versions


def test_versions_that_are_listed() -> None:
    assert meant(affected(versions=("1.0", "2.0.0")), "1.0", "1.0.0", "2.0", "3.0") == ["1.0", "1.0.0", "2.0"]
    # With a range there, the list is no more than the text it has.
    assert meant(affected("introduced 9", versions=("1.0",)), "1.0", "1.0.0", "9") == ["1.0", "9"]
    assert meant(affected(), "1.0") == []


def test_a_semver_range_is_in_its_own_order() -> None:
    entry = affected("introduced 0", "fixed 1.0.0-rc.1", kind="SEMVER")
    assert is_affected("1.0.0-beta", [entry], pep440.key)
    assert not is_affected("1.0.0", [entry], pep440.key)


def test_the_version_that_mends_it() -> None:
    branches = [
        affected("introduced 0", "fixed 1.2", "introduced 2.0", "fixed 2.3"),
        affected("introduced 1.1", "fixed 1.4"),
    ]
    assert first_fixed("1.0", branches, pep440.key) == "1.4"
    assert first_fixed("2.1", branches, pep440.key) == "2.3"
    assert first_fixed("1.0", [affected("introduced 0", "last_affected 3")], pep440.key) is None
    assert (
        first_fixed("1.0", [affected("introduced 0"), affected("introduced 0", "fixed 2")], pep440.key)
        is None
    )


@given(
    st.lists(st.tuples(st.sampled_from(["introduced", "fixed"]), st.integers(0, 9)), max_size=8),
    st.integers(0, 9),
)
def test_a_fix_is_later_and_not_affected(events: list[tuple[str, int]], version: int) -> None:
    entry = affected(*(f"{kind} {number}" for kind, number in events))
    fixed = first_fixed(str(version), [entry], dpkg.key)
    if fixed is not None:
        assert int(fixed) > version
        assert not is_affected(fixed, [entry], dpkg.key)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10, unique=True), st.integers(0, 45))
def test_ranges_in_turn_are_intervals(bounds: list[int], version: int) -> None:
    """Introduced and fixed in turn: a version is affected if an odd number of the bounds is at or below it."""
    bounds.sort()
    events = [
        f"{'introduced' if index % 2 == 0 else 'fixed'} {bound}.0.0" for index, bound in enumerate(bounds)
    ]
    inside = sum(bound <= version for bound in bounds) % 2 == 1
    assert is_affected(f"{version}.0.0", [affected(*events, kind="SEMVER")], semver.key) is inside


def test_a_record_of_very_many_events_takes_no_time() -> None:
    events = [f"{kind} {number}" for number in range(10_000) for kind in ("fixed", "introduced")]
    started = time.thread_time()
    assert first_fixed("5", [affected(*events)] * 3, pep440.key) is None
    assert time.thread_time() - started < 60  # minutes, if each fix were worked out anew


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["introduced", "fixed", "last_affected", "limit"]), st.sampled_from("0123456789*")
    ),
    max_size=8,
)


@given(EVENTS, st.integers(0, 9))
def test_as_the_schemas_pseudocode_has_it(events: list[tuple[str, str]], version: int) -> None:
    def at(kind: str, text: str) -> int:
        return 99 if text == "*" else int(text)

    made = [(kind, text) for kind, text in events if text != "*" or kind == "limit"]
    limits = [at(kind, text) for kind, text in made if kind == "limit"]
    expected = False
    for kind, text in sorted(made, key=lambda event: (at(*event), event[0] == "last_affected")):
        if kind == "introduced" and version >= at(kind, text):
            expected = True
        elif (kind == "fixed" and version >= at(kind, text)) or (
            kind == "last_affected" and version > at(kind, text)
        ):
            expected = False
    if limits and not any(version < limit for limit in limits):
        expected = False
    # An introduction at "0" is before all else, also before a fix at 0 that the document has first.
    assume(not {("introduced", "0"), ("fixed", "0")} <= set(made))
    entry = affected(*(f"{kind} {text}" for kind, text in made))
    assert is_affected(str(version), [entry], pep440.key) is expected
