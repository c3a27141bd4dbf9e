"""Mark and sweep over a bucket, by any process at any time, beside any number of pushes.

A disk's sweep takes a lock that every push takes, too. A bucket has no lock, and no conditional deletion on every
server; what it has is that a listing shows everything that was written before. So each side writes its mark first and
looks second, and at least one sees the other. For each page of blobs::

    sweep                                   whoever renews or leases
    1 list them
    2 read leases, then roots
    3 write a tomb beside what is left      a write the young mark
    4 list again                            b list: a tomb?
    5 young mark changed: take the tomb       no  → the sweep will see the mark
      away again; else delete                 yes → publish the record anew, under another name

A renewal always wins: either the tomb was written after its listing (b before 3), then its mark is there at 4; or it
sees the tomb and no longer relies on that record. The new record names the same parts, and has none of the old tombs. A
sweep deletes exactly the records it marked, by their own names that are never used again, so one that was asleep for a
day deletes nothing that was published or renewed meanwhile, and two sweeps do not disturb each other.

A lease that began after 1 has renewed after 1 and is seen at 4, whether or not it is over by then; one that began
before is read at 2, or is over, and then its reference was made before and is among the roots.

Parts go later than their record: ``dead/ORIGIN`` is written first, and the sweep that finds it older than ``rest``
removes the parts unless a record of the blob names them still. So whoever had begun to read can end, and whoever
publishes a record anew has that time to do it. What is killed in the middle leaves a tomb, which costs the next renewal
one more record, or a ``dead`` mark, which is acted on later.

Blobs that are linked but referenced by no manifest yet are protected by age alone (``grace``), by the server's clock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from slipway.base.ids import new_id
from slipway.content.bucket.blobs import Publication, Record, home, publications
from slipway.content.bucket.decisions import published
from slipway.content.bucket.objects import Item, Missing, Objects
from slipway.content.bucket.parts import remove_parts
from slipway.content.collect import PAGE, Collected, Roots, drop_ended, pages, unneeded
from slipway.errors import Invalid
from slipway.oci import Digest


def listing(objects: Objects) -> Iterator[tuple[Digest, list[Publication]]]:
    """Every blob with its publications, one home after another."""
    items = itertools.chain.from_iterable(objects.scan("blobs"))
    for directory, group in itertools.groupby(items, lambda item: item.key.rpartition("/")[0]):
        found = publications(group)
        words = directory.split("/")
        if found and len(words) == 4:
            try:
                yield Digest(words[1], words[3]), found
            except Invalid:
                continue  # a stray object


def collect(
    objects: Objects,
    leased: Callable[[], Iterable[Digest]],
    roots: Roots,
    grace: float,
    rest: float,
    settle: Callable[[], None],
) -> Collected:
    """``settle`` waits between 3 and 4, for servers whose listings are late; nothing else depends on time."""
    now = objects.clock()
    _remove_dead(objects, now - rest)
    end = now - max(grace, 0)
    old = (item for item in listing(objects) if all(one.touched < end for one in item[1]))
    done = Collected(0, 0)
    doomed: dict[Digest, list[Publication]] = {}
    drop_ended(leased)
    for page in pages(old):
        unneeded(page, leased, roots)
        doomed |= page
        if len(doomed) >= PAGE:  # not for each page: ``settle`` may take its time
            done = _remove(objects, doomed, settle, done)
            doomed = {}
    return _remove(objects, doomed, settle, done) if doomed else done


def _remove(
    objects: Objects, doomed: dict[Digest, list[Publication]], settle: Callable[[], None], done: Collected
) -> Collected:
    """3 to 5."""
    sweep = new_id()
    for found in doomed.values():
        for one in found:
            objects.put(_tomb(one, sweep), b"")
    settle()
    removed, freed = done.removed, done.bytes
    for digest, found in doomed.items():
        if _bury(objects, digest, found, sweep):
            removed, freed = removed + 1, freed + found[0].size
    return Collected(removed, freed)


def _tomb(one: Publication, sweep: str) -> str:
    return f"{one.key}.tomb.{sweep}"


def _bury(objects: Objects, digest: Digest, marked: list[Publication], sweep: str) -> bool:
    """Delete what nobody renewed since it was marked; whether the blob is gone by that."""
    here = {one.key: one for one in publications(objects.list(home(digest)))}
    kept = False
    for one in marked:
        current = here.pop(one.key, None)
        if current is None:
            continue  # another sweep was quicker
        if current.young == one.young:
            bury(objects, digest, current)
        else:
            objects.delete([_tomb(one, sweep)])
            kept = True
    return not kept and not here


def bury(objects: Objects, digest: Digest, one: Publication) -> None:
    """Delete one record for good; its parts follow when nobody can be reading them."""
    try:
        record = Record.parse(objects.get(one.key))
    except Missing:
        return
    if record.parts:
        objects.put(f"dead/{record.origin}", str(digest).encode())
    objects.delete(one.all_keys)


def _remove_dead(objects: Objects, end: float) -> None:
    for item in itertools.chain.from_iterable(objects.scan("dead")):
        if item.modified > end:
            continue
        try:
            digest = Digest.parse(objects.get(item.key).decode())
        except Missing:
            continue
        origin = item.key.rpartition("/")[2]
        if not published(objects, digest, origin):
            remove_parts(objects, origin)
        objects.delete([item.key])


def renewed(objects: Objects, digest: Digest, items: Iterable[Item]) -> Publication | None:
    """Make the blob young (a and b above): a publication that no sweep has marked, or ``None`` when it is gone."""
    for one in publications(items):
        objects.put(f"{one.key}.young", new_id().encode())
        here = {other.key: other for other in publications(objects.list(home(digest)))}
        found = here.get(one.key)
        if found is None:
            objects.delete([f"{one.key}.young"])
        elif not found.tombs:
            return found
        elif (again := _again(objects, digest, found)) is not None:
            return again
    return None


def _again(objects: Objects, digest: Digest, one: Publication) -> Publication | None:
    """The same record under a new name; ``None`` when it is gone already."""
    try:
        raw = objects.get(one.key)
    except Missing:
        return None
    key = f"{home(digest)}/{one.size}.{new_id()}"
    objects.put(key, raw)
    parts = Record.parse(raw).parts
    if parts and objects.look(parts[0].key) is None:
        objects.delete([key])
        return None
    return Publication(key, one.size, 0.0)
