"""The advisories on disk: loading, looking up, and what is left when something goes wrong."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base.clock import now
from slipway.errors import Invalid, NotFound, Unavailable
from slipway.registry.findings import (
    Advisories,
    Advisory,
    Affected,
    Event,
    Level,
    Range,
    Severity,
    packed,
)


def record(name: str, *affected: tuple[str, str], modified: str = "2025-01-01T00:00:00Z") -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
    packages = [{"ecosystem": ecosystem, "name": package} for ecosystem, package in affected]
    return {
        "id": name, "modified": modified,
        "affected": [{"package": item, "ranges": ranges, "versions": ["1", "2"]} for item in packages],
    }  # fmt: skip


def dump(tmp_path: Path, *records: dict[str, Any]) -> Path:
    path = tmp_path / "dump.zip"
    with zipfile.ZipFile(path, "w") as file:
        for index, item in enumerate(records):
            file.writestr(f"{index}.json", json.dumps(item))
    return path


@pytest.fixture
def advisories(tmp_path: Path) -> Iterator[Advisories]:
    made = Advisories(tmp_path / "findings" / "index.sqlite")
    yield made
    made.close()


def ids(found: list[Advisory]) -> list[str]:
    return [item.id for item in found]


def test_nothing_is_loaded_yet(advisories: Advisories) -> None:
    assert advisories.lookup("Debian", "curl") == []
    assert advisories.ecosystems() == frozenset()
    assert advisories.updated is None
    assert advisories.sources() == []


def test_lookup_by_ecosystem_and_release(advisories: Advisories, tmp_path: Path) -> None:
    file = dump(
        tmp_path,
        record("X-1", ("Debian:12", "curl"), ("Debian:11", "curl"), ("Debian:12", "wget"), ("npm", "curl")),
        record("X-2", ("Debian", "curl")),
        record("X-3", ("Maven", "a:b")),
        record("X-4"),
    )
    counts = advisories.load(file)
    assert (counts.read, counts.unused, counts.skipped) == (4, 2, 0)
    assert ids(advisories.lookup("Debian", "curl")) == ["X-1", "X-2"]
    found = advisories.lookup("Debian:12", "curl")
    assert [[item.ecosystem for item in advisory.affected] for advisory in found] == [
        ["Debian:12"],
        ["Debian"],
    ]
    assert ids(advisories.lookup("Debian:11", "curl")) == ["X-1", "X-2"]
    assert ids(advisories.lookup("Debian:10", "curl")) == ["X-2"]
    assert advisories.lookup("Debian:11", "wget") == []
    assert advisories.ecosystems() == {"Debian", "Debian:11", "Debian:12", "npm"}
    assert ids(advisories.lookup("Debian", "curl", lambda ecosystem: ecosystem == "Debian:11")) == ["X-1"]
    assert found[0].affected[0].versions == {"1", "2"}
    updated = advisories.updated
    assert updated is not None
    assert timedelta() <= now() - updated < timedelta(minutes=1)


def test_python_names_are_the_same_in_any_form(advisories: Advisories, tmp_path: Path) -> None:
    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "Zope.Interface"))))
    assert ids(advisories.lookup("PyPI", "zope_interface")) == ["X-1"]


def test_each_source_is_replaced_by_itself(advisories: Advisories, tmp_path: Path) -> None:
    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a")), record("X-2", ("PyPI", "a"))), "PyPI")
    advisories.load(dump(tmp_path, record("Y-1", ("npm", "b"))), "npm")
    advisories.load(dump(tmp_path, record("X-2", ("PyPI", "a")), record("X-3", ("PyPI", "a"))), "PyPI")
    assert ids(advisories.lookup("PyPI", "a")) == ["X-2", "X-3"]
    assert ids(advisories.lookup("npm", "b")) == ["Y-1"]
    assert [(item.name, item.advisories) for item in advisories.sources()] == [("PyPI", 2), ("npm", 1)]
    advisories.remove("npm")
    assert advisories.lookup("npm", "b") == []
    assert advisories.ecosystems() == {"PyPI"}


def test_an_advisory_in_two_sources_comes_once_as_modified_last(
    advisories: Advisories, tmp_path: Path
) -> None:
    newer = record("X-1", ("PyPI", "a"), modified="2025-02-01T00:00:00Z")
    advisories.load(dump(tmp_path, newer), "one")
    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))), "two")
    (found,) = advisories.lookup("PyPI", "a")
    assert found.modified == "2025-02-01T00:00:00Z"


@pytest.mark.parametrize("content", [b"nothing of use", b"PK\x03\x04", None])
def test_a_load_that_fails_leaves_all_as_it_was(
    advisories: Advisories, tmp_path: Path, content: bytes | None
) -> None:
    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))))
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises((Invalid, NotFound)):
        advisories.load(bad)
    assert ids(advisories.lookup("PyPI", "a")) == ["X-1"]
    assert sorted(path.name for path in (tmp_path / "findings").iterdir()) == [
        "index.sqlite",
        "index.sqlite.lock",
    ]


def test_a_load_breaks_off_in_the_middle(advisories: Advisories, tmp_path: Path) -> None:
    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))))
    whole = dump(tmp_path, *(record(f"Y-{index}", ("PyPI", "a")) for index in range(50))).read_bytes()
    second = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 500)
    (tmp_path / "bad").write_bytes(whole[:second] + b"XX" + whole[second + 2 :])
    with pytest.raises(Invalid, match="damaged"):
        advisories.load(tmp_path / "bad")
    assert ids(advisories.lookup("PyPI", "a")) == ["X-1"]


def test_what_a_killed_load_left_is_removed(advisories: Advisories, tmp_path: Path) -> None:
    (tmp_path / "findings").mkdir()
    left = tmp_path / "findings" / ".index.sqlite.abc"
    left.write_bytes(b"x")
    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))))
    assert not left.exists()


def test_another_object_sees_what_was_loaded(advisories: Advisories, tmp_path: Path) -> None:
    other = Advisories(tmp_path / "findings" / "index.sqlite")
    assert other.updated is None
    for name in ("X-1", "X-2"):
        advisories.load(dump(tmp_path, record(name, ("PyPI", "a"))))
        assert ids(other.lookup("PyPI", "a")) == [name]
    other.close()
    assert ids(other.lookup("PyPI", "a")) == ["X-2"]


def test_a_damaged_index_is_said(advisories: Advisories, tmp_path: Path) -> None:
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings" / "index.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(Unavailable, match="cannot be read"):
        advisories.lookup("PyPI", "a")
    with pytest.raises(Unavailable, match="cannot be written"):
        advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))))


def test_a_damaged_value_is_said(advisories: Advisories, tmp_path: Path) -> None:
    import sqlite3

    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))))
    for value in (b"no zlib", "no JSON", "[1]", "3"):
        connection = sqlite3.connect(tmp_path / "findings" / "index.sqlite")
        connection.execute("UPDATE affected SET data = ?", (value,))
        connection.commit()
        connection.close()
        advisories.close()
        with pytest.raises(Unavailable, match="cannot be read"):
            advisories.lookup("PyPI", "a")


def test_an_index_of_another_form_counts_for_nothing(advisories: Advisories, tmp_path: Path) -> None:
    import sqlite3

    advisories.load(dump(tmp_path, record("X-1", ("PyPI", "a"))))
    advisories.close()
    connection = sqlite3.connect(tmp_path / "findings" / "index.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    assert advisories.updated is None
    advisories.load(dump(tmp_path, record("X-2", ("PyPI", "a"))), "other")
    assert ids(advisories.lookup("PyPI", "a")) == ["X-2"]


def test_many_threads_look_while_it_is_loaded(advisories: Advisories, tmp_path: Path) -> None:
    file = dump(tmp_path, *(record(f"X-{index}", ("PyPI", "a")) for index in range(20)))
    advisories.load(file)
    wrong: list[int] = []

    def look() -> None:
        for _ in range(100):
            found = len(advisories.lookup("PyPI", "a"))
            if found != 20:
                wrong.append(found)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        advisories.load(file)
    for thread in threads:
        thread.join()
    assert wrong == []


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SEVERITY = st.builds(Severity, st.sampled_from(Level), st.none() | st.floats(0, 10), TEXT)
AFFECTED = st.builds(
    Affected,
    TEXT,
    TEXT,
    st.lists(
        st.builds(Range, TEXT, st.lists(st.builds(Event, TEXT, TEXT), max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    st.frozensets(TEXT, max_size=30),
    st.none() | SEVERITY,
)


@given(
    st.builds(Advisory, TEXT, st.just(("a", "b")), st.just(()), TEXT, SEVERITY, st.just(()), TEXT), AFFECTED
)
def test_what_is_kept_comes_back(advisory: Advisory, affected: Affected) -> None:
    assert packed.advisory(packed.of_advisory(advisory)) == advisory
    assert packed.affected(packed.of_affected(affected), affected.ecosystem, affected.name) == affected
