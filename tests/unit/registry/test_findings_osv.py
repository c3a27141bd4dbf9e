"""Dumps of OSV databases, of every form and from anybody."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.errors import Invalid, NotFound
from slipway.registry.findings.advisories import Advisory, Affected, Event, Level, Range
from slipway.registry.findings.osv import Counts, Limits, read

CURL: dict[str, Any] = {
    "schema_version": "1.7.0", "id": "DEBIAN-CVE-2023-38545", "modified": "2025-01-02T00:00:00Z",
    "published": "2023-10-18T04:15:11Z", "upstream": ["CVE-2023-38545"],
    "details": "This flaw makes curl overflow a heap based buffer in the SOCKS5 proxy handshake.\nMore of it.",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "Debian:12", "name": "curl", "purl": "pkg:deb/debian/curl?arch=source"},
            "ranges": [
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "7.88.1-10+deb12u4"}]},
                {"type": "GIT", "repo": "https://e.org/curl", "events": [{"introduced": "0"}]},
            ],
            "versions": ["7.88.1-10", "7.88.1-10+deb12u1"],
            "ecosystem_specific": {"urgency": "not yet assigned"},
        },
        {"ranges": [{"type": "GIT", "repo": "https://e.org/curl", "events": [{"introduced": "0"}]}]},
    ],
}  # fmt: skip
MINIMAL = {"id": "X-1", "modified": "2024-01-01T00:00:00Z"}
ARRAY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def archive(path: Path, *records: object, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for index, record in enumerate(records):
            file.writestr(f"{index}.json", record if isinstance(record, bytes) else json.dumps(record))
    return path


def test_a_record(tmp_path: Path) -> None:
    (found,) = read(archive(tmp_path / "all.zip", CURL))
    assert found.severity.level is Level.CRITICAL
    assert found.severity.score == 9.8
    assert found == Advisory(
        "DEBIAN-CVE-2023-38545", (), ("CVE-2023-38545",),
        "This flaw makes curl overflow a heap based buffer in the SOCKS5 proxy handshake.", found.severity,
        (
            Affected(
                "Debian:12", "curl",
                (Range("ECOSYSTEM", (Event("introduced", "0"), Event("fixed", "7.88.1-10+deb12u4"))),),
                frozenset({"7.88.1-10", "7.88.1-10+deb12u1"}),
            ),
        ),
        "2025-01-02T00:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    "form", ["deflated", "stored", "lines", "object", "list", "pretty", "one line", "bom"]
)
def test_every_form_is_told_by_its_content(tmp_path: Path, form: str) -> None:
    path = tmp_path / "dump"
    records = [CURL] if form in ("object", "one line", "bom") else [CURL, MINIMAL]
    if form == "deflated":
        archive(path, *records)
    elif form == "stored":
        archive(path, *records, method=zipfile.ZIP_STORED)
    elif form == "lines":
        path.write_text("\n" + "\n\n".join(json.dumps(item) for item in records))
    elif form == "list":
        path.write_text(json.dumps(records))
    elif form == "pretty":
        path.write_text(json.dumps(records, indent=2))
    elif form == "object":
        path.write_text(json.dumps(CURL, indent=2))
    else:
        path.write_text(("\ufeff" if form == "bom" else "") + json.dumps(CURL))
    assert [item.id for item in read(path)] == [item["id"] for item in records]


def test_what_is_no_record_is_skipped_and_counted(tmp_path: Path) -> None:
    counts = Counts()
    bad: list[object] = [
        {"id": ""}, {"id": 3}, [], b"{", b"\xff\xfe", b"[" * 100_000, {**MINIMAL, "affected": {}},
        {**MINIMAL, "affected": [{"package": {"ecosystem": "npm"}}]},
        {**MINIMAL, "affected": [{"package": {"ecosystem": "npm", "name": "x" * 501}}]},
        {**MINIMAL, "affected": [{"package": {"ecosystem": "npm", "name": "x"}, "ranges": [
            {"type": "SEMVER", "events": [{"introduced": 1}]}]}]},
        b'{"id": 1' + b"0" * 5000 + b"}",
    ]  # fmt: skip
    withdrawn = {**MINIMAL, "id": "X-2", "withdrawn": "2024-01-01T00:00:00Z"}
    path = archive(tmp_path / "all.zip", *bad, MINIMAL, withdrawn)
    assert [item.id for item in read(path, counts)] == ["X-1"]
    # An empty list is a document of no records.
    assert (counts.read, counts.withdrawn, counts.skipped) == (1, 1, len(bad) - 1)
    assert counts.reasons[0] == "0.json: id: a text is wanted"
    assert len(counts.reasons) == 10


def test_texts_that_nothing_can_encode(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"id": "X-\\ud800", "summary": "a\\u0000b\\u001b[31m", "modified": "m"}')
    (found,) = read(path)
    assert (found.id, found.summary) == ("X-?", "a?b?[31m")


def test_unknown_fields_and_types_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x"
    package = {"ecosystem": "Elsewhere", "name": "x", "new": 1}
    ranges = [{"type": "NEW", "events": 3}, {"type": "SEMVER", "events": []}]
    path.write_text(json.dumps({**MINIMAL, "new": {}, "affected": [{"package": package, "ranges": ranges}]}))
    (found,) = read(path)
    assert found.affected == (Affected("Elsewhere", "x"),)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"hello", b"{}", b"[]", b"3", b"PK\x03\x04 and no more", b"\0" * 99]
)
def test_a_file_without_a_record_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(Invalid):
        list(read(path))


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(read(tmp_path / "none"))
    with pytest.raises(Invalid, match="directory"):
        list(read(tmp_path))


# Limits


def test_a_record_over_the_limit_is_skipped_and_the_next_one_read(tmp_path: Path) -> None:
    limits = Limits(record=1000)
    large = {**MINIMAL, "details": "x" * 5000}
    lines = tmp_path / "lines"
    lines.write_text("\n".join(json.dumps(item) for item in (MINIMAL, large, MINIMAL)))
    for path in (lines, archive(tmp_path / "zip", MINIMAL, large, MINIMAL)):
        counts = Counts()
        assert [item.id for item in read(path, counts, limits)] == ["X-1", "X-1"]
        assert counts.skipped == 1
        assert "at most 1000" in counts.reasons[0] or "more than 1000" in counts.reasons[0]


def test_a_single_document_over_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(json.dumps([MINIMAL] * 100, indent=1))
    with pytest.raises(Invalid, match="more than 1000 bytes"):
        list(read(path, limits=Limits(record=1000)))


def test_too_many_records(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text((json.dumps(MINIMAL) + "\n") * 5)
    for file in (path, archive(tmp_path / "zip", *[MINIMAL] * 5)):
        with pytest.raises(Invalid, match=r"4 records|at most 4"):
            list(read(file, limits=Limits(records=4)))


def test_an_archive_that_expands_too_far(tmp_path: Path) -> None:
    path = archive(tmp_path / "zip", *[{**MINIMAL, "details": " " * 8_000_000}] * 12)
    with pytest.raises(Invalid, match="expands to more than"):
        list(read(path))
    with pytest.raises(Invalid, match="expands to more than"):
        list(read(path, limits=Limits(total=1_000_000)))


def test_an_archive_whose_entries_share_their_data(tmp_path: Path) -> None:
    """Each entry of the directory points at the same bytes: a thousand copies for the price of one."""
    data = archive(tmp_path / "zip", {**MINIMAL, "details": "abc" * 1000}).read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry, count = data[start:end], 1000
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0)
    path = tmp_path / "bomb"
    path.write_bytes(data[:start] + entry * count + tail)
    with pytest.raises(Invalid, match=r"overlap|expands"):
        list(read(path, limits=Limits(ratio=3)))


def test_an_entry_that_lies_about_its_size(tmp_path: Path) -> None:
    """The declared size is small, what comes out is not: no more than declared is unpacked."""
    data = bytearray(
        archive(tmp_path / "zip", {**MINIMAL, "details": " " * 10_000_000}, MINIMAL).read_bytes()
    )
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    path = tmp_path / "liar"
    path.write_bytes(data)
    counts = Counts()
    assert len(list(read(path, counts))) == 1
    assert "damaged" in counts.reasons[0]


@pytest.mark.parametrize("cut", [0, 8])
def test_an_entry_with_wide_numbers(tmp_path: Path, cut: int) -> None:
    """Sizes and offset in the field of zip64, as archives beyond four gigabytes have them; or only a part of it."""
    data = archive(tmp_path / "zip", MINIMAL).read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = bytearray(data[start:end])
    packed, size = struct.unpack_from("<II", entry, 20)
    entry[20:28], entry[30:32], entry[42:46] = b"\xff" * 8, struct.pack("<H", 28 - cut), b"\xff" * 4
    entry += struct.pack("<HHQQQ", 1, 24, size, packed, 0)[: 28 - cut]
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), start, 0)
    path = tmp_path / "wide"
    path.write_bytes(data[:start] + entry + tail)
    if cut:
        with pytest.raises(Invalid, match="cut off"):
            list(read(path))
    else:
        assert [item.id for item in read(path)] == ["X-1"]


@pytest.mark.slow
def test_a_large_archive_needs_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "zip"
    with zipfile.ZipFile(path, "w") as file:
        for index in range(70_000):  # beyond what a directory without zip64 can count
            file.writestr(f"{index}.json", f'{{"id": "X-{index}", "modified": "m"}}')
    tracemalloc.start()
    assert sum(1 for _ in read(path)) == 70_000
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


# Anything at all


@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.data())
def test_any_damage_to_an_archive_is_refused_or_counted(tmp_path: Path, data: st.DataObject) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for index in range(3):
            file.writestr(f"{index}.json", json.dumps(CURL))
    raw = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    _read_or_refused(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.binary(max_size=200) | st.text(alphabet='{}[]":,\\ud80 nulid\n1e9', max_size=120).map(str.encode))
def test_any_bytes_are_refused_or_counted(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    _read_or_refused(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.data())
def test_any_value_in_any_place_of_a_record(tmp_path: Path, data: st.DataObject) -> None:
    record = json.loads(json.dumps(CURL))
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = record
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and data.draw(st.booleans()):
                place = place[key]
                continue
            place[key] = data.draw(ARRAY)
            break
    path = tmp_path / "x"
    path.write_text(json.dumps(record))
    _read_or_refused(path)


def _read_or_refused(path: Path) -> None:
    """No error but ``Invalid``, and nothing but what can be written down."""
    with suppress(Invalid):
        for advisory in read(path):
            assert advisory.id
            repr(advisory).encode()
            assert all(item.name and item.ecosystem for item in advisory.affected)
