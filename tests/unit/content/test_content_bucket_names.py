"""What listings of a bucket mean: the parts of an upload, the publications of a blob."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.content.bucket.blobs import Part, Record, publications
from slipway.content.bucket.objects import Item
from slipway.content.bucket.parts import chain
from slipway.oci import Digest

HOME = f"blobs/sha256/ab/{Digest.of(b'x').hex}"


def part(offset: int, size: int, nonce: str) -> Item:
    return Item(f"parts/u/{offset:015d}-{size}-{nonce}", size, 0.0, "")


def mark(name: str, modified: float = 1.0, etag: str = "e") -> Item:
    return Item(f"{HOME}/{name}", 0, modified, etag)


@given(st.lists(st.integers(1, 50), max_size=12), st.integers(0, 1000))
def test_parts_follow_one_another(sizes: list[int], seed: int) -> None:
    items, offset = [], 0
    for number, size in enumerate(sizes):
        items.append(part(offset, size, f"n{number}"))
        offset += size
    wanted = [Part(item.key, item.size) for item in items]
    random.Random(seed).shuffle(items)
    assert chain(items) == wanted


def test_a_gap_ends_the_chain() -> None:
    assert [one.size for one in chain([part(0, 5, "a"), part(6, 5, "b")])] == [5]
    assert chain([part(1, 5, "a")]) == []


def test_of_two_at_one_place_the_longer_way_is_taken() -> None:
    items = [part(0, 5, "z"), part(0, 4, "a"), part(4, 9, "b"), part(5, 1, "c")]
    assert [one.size for one in chain(items)] == [4, 9]


def test_what_is_no_part_is_passed_over() -> None:
    wrong = [Item("parts/u/x", 1, 0.0, ""), Item(f"parts/u/{0:015d}-7-n", 6, 0.0, ""), part(0, 3, "a")]
    assert [one.size for one in chain(wrong)] == [3]


def test_marks_belong_to_their_record() -> None:
    items = [
        mark("5.aa", 10), mark("5.bb", 20), mark("5.aa.young", 30, "r1"), mark("5.bb.tomb.s1"), mark("5.bb.tomb.s2"),
        mark("5.gone.young", 40), mark("5.gone.tomb.s"), mark("README"), mark("x.y"), mark("1.2.3.4.5"),
    ]  # fmt: skip
    first, second = publications(items)
    assert (first.key, first.size, first.written, first.young, first.tombs) == (
        f"{HOME}/5.aa",
        5,
        10,
        (30, "r1"),
        (),
    )
    assert first.touched == 30
    assert second.tombs == (
        f"{HOME}/5.bb.tomb.s1",
        f"{HOME}/5.bb.tomb.s2",
    )  # read last: it may be about to go
    assert second.all_keys == [f"{HOME}/5.bb", *second.tombs, f"{HOME}/5.bb.young"]


@pytest.mark.parametrize("data", [b"", b"\n\n{}\n", b"x" * 999])
def test_records_come_back_as_they_were(data: bytes) -> None:
    small = Record(len(data), "origin", data=data)
    large = Record(9, "origin", (Part("parts/a/1", 4), Part("parts/a/2", 5)))
    for record in (small, large):
        assert Record.parse(record.to_bytes()) == record
