"""Whether an upload is open, committed or discarded: what two processes cannot both decide.

``uploads/ID/open`` is there from its beginning to its end; ``commit`` and ``discard`` are wishes."""

from __future__ import annotations

import contextlib

from slipway.content.bucket.blobs import Record, home, publications
from slipway.content.bucket.objects import Item, Missing, Objects
from slipway.content.bucket.parts import remove_parts
from slipway.errors import NotFound
from slipway.oci import Digest

_DECIDED_SECONDS = 3600.0  # a commit that was begun this long ago is no longer under way


def begin(objects: Objects, upload: str) -> None:
    objects.put(_name(upload, "open"), b"")


def _name(upload: str, what: str) -> str:
    return f"uploads/{upload}/{what}"


def require_open(objects: Objects, upload: str) -> None:
    if objects.look(_name(upload, "open")) is None:
        raise NotFound(f"there is no upload {upload!r}")


def decide(objects: Objects, upload: str, digest: Digest) -> None:
    """Commit, or raise ``NotFound`` because it is discarded.

    Each side writes its wish before it looks for the other's, and what was decided is forgotten in the order open,
    commit, discard. So who finds no other wish and, after that, the upload still open is the only one to go on.
    """
    objects.put(_name(upload, "commit"), str(digest).encode())
    if objects.look(_name(upload, "discard")) is None and objects.look(_name(upload, "open")) is not None:
        return
    objects.delete([_name(upload, "commit")])
    raise NotFound(f"there is no upload {upload!r} any more")


def discard(objects: Objects, upload: str) -> None:
    """Remove the upload and its bytes, unless they are a blob's or are just becoming that."""
    objects.put(_name(upload, "discard"), b"")
    commit = objects.look(_name(upload, "commit"))
    if commit is not None and objects.clock() - commit.modified < _DECIDED_SECONDS:
        objects.delete([_name(upload, "discard")])
        return
    if commit is None:
        ours = objects.look(_name(upload, "open")) is not None
    else:  # whoever began to commit was killed: before it had published, or after
        ours = not published(objects, Digest.parse(objects.get(commit.key).decode()), upload)
    if ours:
        remove_parts(objects, upload)
    forget(objects, upload)


def forget(objects: Objects, upload: str) -> None:
    objects.delete([_name(upload, name) for name in ("open", "commit", "discard")])


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
            objects.delete([item.key for item in items.values()])
            continue
        parts = objects.list(f"parts/{upload}")
        times.append((upload, max(item.modified for item in (items["open"], *parts))))
    return times
