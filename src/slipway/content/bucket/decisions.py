"""Whether an upload is open, committed or discarded: what two processes cannot both decide.

``uploads/ID/open`` is there from its beginning to its end. ``commit`` and ``discard`` are wishes, ``gone`` says that it
is discarded and its parts may be removed. Each side writes its wish before it looks for the other's.
"""

from __future__ import annotations

import contextlib

from slipway.content.bucket.blobs import Record, home, publications
from slipway.content.bucket.objects import Item, Missing, Objects
from slipway.content.bucket.parts import mark, remove_parts
from slipway.errors import NotFound
from slipway.oci import Digest

_DECIDED_SECONDS = 3600.0  # a commit that was begun this long ago is no longer under way


def begin(objects: Objects, upload: str) -> None:
    objects.put(mark(upload, "open"), b"")


def decide(objects: Objects, upload: str, digest: Digest) -> None:
    """Commit, or raise ``NotFound`` because it is discarded.

    ``open`` is deleted before the wishes. So who finds no wish to discard and, after that, the upload still open, wrote
    before the other looked, and is the only one to go on.
    """
    objects.put(mark(upload, "commit"), str(digest).encode())
    if objects.look(mark(upload, "discard")) is None and objects.look(mark(upload, "open")) is not None:
        return
    objects.delete([mark(upload, "commit")])
    raise NotFound(f"there is no upload {upload!r} any more")


def discard(objects: Objects, upload: str) -> None:
    """Remove the upload and its bytes, unless they are a blob's or are just becoming that."""
    objects.put(mark(upload, "discard"), b"")
    if _is_ours(objects, upload):
        objects.put(mark(upload, "gone"), b"")
        forget(objects, upload, "open")  # before the parts: who writes one now sees that, or is seen
        remove_parts(objects, upload)
        forget(objects, upload)
    else:
        forget(objects, upload, "discard")


def _is_ours(objects: Objects, upload: str) -> bool:
    """Whether the parts are nobody else's, the wish to discard them having been written."""
    commit = objects.look(mark(upload, "commit"))
    if commit is None:
        return objects.look(mark(upload, "open")) is not None
    if objects.clock() - commit.modified < _DECIDED_SECONDS:
        return False
    try:  # whoever began to commit was killed: before it had published, or after
        digest = Digest.parse(objects.get(commit.key).decode())
    except Missing:
        return False
    if published(objects, digest, upload):
        forget(objects, upload)
        return False
    return True


def forget(objects: Objects, upload: str, *names: str) -> None:
    """Delete these marks, or all of them in the order that ``decide`` relies on."""
    objects.delete([mark(upload, name) for name in names or ("open", "commit", "discard", "gone")])


def published(objects: Objects, digest: Digest, origin: str) -> bool:
    """Whether a publication of the blob needs the parts of this upload."""
    for one in publications(objects.list(home(digest))):
        with contextlib.suppress(Missing):
            if Record.parse(objects.get(one.key)).origin == origin:
                return True
    return False


def open_uploads(objects: Objects) -> list[tuple[str, float]]:
    """Ids of open uploads and the server's time at which each was last written to."""
    found: dict[str, dict[str, Item]] = {}
    for item in objects.list("uploads"):
        _, upload, name = item.key.split("/", 2)
        found.setdefault(upload, {})[name] = item
    times = []
    for upload, items in found.items():
        if "open" not in items:  # ended by a process that was killed before it had forgotten it
            if "gone" in items:
                remove_parts(objects, upload)
            forget(objects, upload)
            continue
        parts = objects.list(f"parts/{upload}")
        times.append((upload, max(item.modified for item in (items["open"], *parts))))
    return times
