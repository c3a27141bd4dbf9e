"""What workers that wait are told to unpack, and what they may have of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slipway.build.pods.beforehand import Beforehand, Layers
from slipway.build.pods.desk import Desk
from slipway.build.pods.forms import layer_to_json
from slipway.content import ContentStore, LocalStore
from slipway.errors import Conflict, NotFound
from slipway.oci import Descriptor, Digest
from slipway.snapshots import LayerRef


@dataclass(eq=False)
class Noted:
    """A worker that notes what it is told."""

    told: list[Layers] = field(default_factory=list)

    def prepare(self, layers: Layers, blobs: ContentStore) -> None:
        self.told.append(layers)


def image(blobs: LocalStore, *texts: bytes) -> Layers:
    media = "application/vnd.oci.image.layer.v1.tar"
    return tuple(LayerRef(Digest.of(text), Descriptor(media, blobs.put(text), len(text))) for text in texts)


def test_who_waits_is_told_what_its_projects_last_build_stood_on(tmp_path: Path) -> None:
    blobs, beforehand = LocalStore(tmp_path), Beforehand()
    one, two, three = (image(blobs, text) for text in (b"one", b"two", b"three"))
    early, late, stranger = Noted(), Noted(), Noted()
    with beforehand.waits("p", early), beforehand.waits("q", stranger):
        for layers in (one, two, one, ()):
            beforehand.used("p", "first", layers, blobs)
        with beforehand.waits("p", late):
            beforehand.used("p", "second", three, blobs)
    beforehand.used("p", "third", one, blobs)
    assert early.told == [one, two, three]
    assert late.told == [one, two, three]
    assert stranger.told == []
    last = Noted()
    with beforehand.waits("p", last):
        assert last.told == [one]


async def test_the_next_project_of_a_name_is_told_nothing_of_the_one_before(tmp_path: Path) -> None:
    blobs, beforehand, late = LocalStore(tmp_path), Beforehand(), Noted()
    for project in ("p", "q"):
        beforehand.used(project, "first", image(blobs, b"private"), blobs)
    await beforehand.forget("p")
    await beforehand.forget("p")
    with beforehand.waits("p", late):
        assert late.told == []
    with beforehand.waits("q", late):
        assert len(late.told) == 1


async def test_a_worker_without_a_build_has_what_it_was_told_to_unpack_and_nothing_else(
    tmp_path: Path,
) -> None:
    blobs, desk = LocalStore(tmp_path), Desk()
    layers, other = image(blobs, b"lower", b"upper"), blobs.put(b"another's")
    ticket = desk.ticket()
    seat = desk.join(ticket.token)
    messages = seat.messages()
    await anext(messages)
    with pytest.raises(Conflict):
        await seat.open(layers[0].blob.digest)
    seat.prepare(layers, blobs)
    seat.prepare(layers, blobs)
    many = [image(blobs, b"%d" % number) for number in range(9)]
    for item in many:
        seat.prepare(item, blobs)
    assert await anext(messages) == {"unpack": [layer_to_json(layer) for layer in layers]}
    assert [await anext(messages) for _ in range(3)] == [
        {"unpack": [layer_to_json(item[0])]} for item in many[:3]
    ]
    handle, size = await seat.open(layers[1].blob.digest)
    with handle:
        assert (handle.read(), size) == (b"upper", 5)
    for digest in (other, many[8][0].blob.digest):
        with pytest.raises(Conflict):
            await seat.open(digest)
    blobs.delete(layers[0].blob.digest)
    with pytest.raises(NotFound):
        await seat.open(layers[0].blob.digest)
    desk.withdraw(ticket)
    seat.prepare(image(blobs, b"late"), blobs)
    assert [message async for message in messages] == []
