"""Moves of a tag that arrive in any order, any number of times, leave every site with the same."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Invalid
from slipway.registry.merge import Outcome, decide, merged
from slipway.registry.moves import Moved, parse_move
from slipway.registry.tagging import Move


@dataclass
class Site:
    """One tag at one site, as ``merge.apply`` keeps it."""

    name: str
    clock: int = 0
    move: Move | None = None
    value: str = ""
    conflicts: list[tuple[str, str]] = field(default_factory=list)

    def write(self, value: str, time: int) -> None:
        self.clock = max(self.clock + 1, time)
        versions = {**(self.move.versions if self.move else {}), self.name: self.clock}
        self.move, self.value = Move(self.clock, self.name, versions), value

    def hear(self, move: Move, value: str) -> None:
        outcome, blind = decide(self.move, move)
        self.clock = max([self.clock, *move.versions.values()])
        if blind and value != self.value:
            self.conflicts.append((self.value, value))
        if outcome is Outcome.TAKEN:
            self.value = value
        if outcome is Outcome.TAKEN or blind:
            self.move = merged(self.move, move) if self.move else move


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("tell"), st.integers(0, 2), st.integers(0, 2)),
    ),
    max_size=30,
)


@given(_STEPS, st.permutations([(a, b) for a in range(3) for b in range(3) if a != b]))
def test_sites_converge_whatever_they_hear_and_when(
    steps: list[tuple[str, int, int]], order: list[tuple[int, int]]
) -> None:
    sites = [Site(name) for name in "abc"]
    for number, (what, one, two) in enumerate(steps):
        if what == "write":
            sites[one].write(f"{one}-{number}", two)  # clocks differ, and go nowhere
        elif (told := sites[one].move) is not None:
            sites[two].hear(told, sites[one].value)
    for _ in range(3):  # everybody hears everybody, in some order, more than once
        for one, two in order:
            if (told := sites[one].move) is not None:
                sites[two].hear(told, sites[one].value)
    assert len({site.value for site in sites}) == 1
    assert len({(site.move.stamp, site.move.origin) if site.move else None for site in sites}) == 1


def test_what_knew_of_the_other_is_no_conflict_however_wrong_the_clocks() -> None:
    a, b = Site("a"), Site("b")
    a.write("1", 1000)
    assert a.move is not None
    b.hear(a.move, a.value)
    b.write("2", 5)  # a clock that is far behind
    assert b.move is not None
    a.hear(b.move, b.value)
    assert (a.value, a.conflicts, b.conflicts) == ("2", [], [])


def test_two_that_knew_nothing_of_each_other_are_a_conflict_once() -> None:
    a, b = Site("a"), Site("b")
    a.write("from a", 10)
    b.write("from b", 20)
    told_a, told_b = a.move, b.move
    assert told_a is not None
    assert told_b is not None
    for _ in range(3):
        a.hear(told_b, "from b")
        b.hear(told_a, "from a")
    assert (a.value, b.value) == ("from b", "from b")
    assert (len(a.conflicts), len(b.conflicts)) == (1, 1)
    assert a.move is not None
    b.hear(a.move, a.value)
    assert b.value == "from b"
    assert len(b.conflicts) == 1


def test_a_move_survives_its_header() -> None:
    moved = Moved(Move(5 << 16, "a", {"a": 5 << 16, "b": 3}), "somebody")
    assert parse_move(moved.header()) == moved


@given(st.binary(max_size=200))
def test_no_header_is_more_than_refused(data: bytes) -> None:
    for text in (data.decode("latin-1"), base64.urlsafe_b64encode(data).decode()):
        with pytest.raises(Invalid):
            parse_move(text)


@pytest.mark.parametrize(
    "value",
    [
        {"stamp": 1 << 62, "origin": "a", "versions": {"a": 1 << 62}},
        {"stamp": 1, "origin": "a", "versions": {"a": 2}},
        {"stamp": 1, "origin": "a", "versions": {"b": 1}},
        {"stamp": -1, "origin": "a", "versions": {"a": -1}},
        {"stamp": True, "origin": "a", "versions": {"a": True}},
        {"stamp": 1, "origin": "a" * 100, "versions": {"a" * 100: 1}},
        {"stamp": 1, "origin": "a", "versions": {"a": 1} | {str(n): 1 for n in range(100)}},
        [], None, "x",
    ],
)  # fmt: skip
def test_moves_that_cannot_be_are_refused(value: object) -> None:
    with pytest.raises(Invalid):
        parse_move(base64.urlsafe_b64encode(json.dumps(value).encode()).decode())
