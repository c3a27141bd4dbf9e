"""Where the sources of a COPY land, and which parents must be made on the way."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import replace

from slipway.build.above import Root
from slipway.build.copy.ownership import Ownership
from slipway.build.copy.select import Selected
from slipway.errors import Invalid
from slipway.layers import Entry
from slipway.layers.entry import WHITEOUT
from slipway.snapshots import resolved

Change = Callable[[Entry], Entry]
Excluded = Callable[[str, bool], bool]


class Placed:
    """The entries of a layer by path, parents before children; later sources replace earlier ones."""

    def __init__(self, root: Root, owner: Ownership | None, epoch: float) -> None:
        self._root = root
        self._owner = owner or Ownership(0, 0)
        self._epoch = epoch
        self._entries: dict[str, Entry] = {}
        self._new: set[str] = set()

    def entries(self) -> list[Entry]:
        """Parents before what is in them, and hard links behind what they link to."""
        paths = sorted(self._entries, key=lambda path: (self._entries[path].kind == "hardlink", path))
        return [self._entries[path] for path in paths]

    def existing(self, path: str) -> Entry | None:
        """What is at ``path`` in the result so far."""
        found = self._entries.get(path)
        if found is not None or path.rpartition("/")[0] in self._new:
            return found
        return self._root.lstat(path)

    def real(self, path: str) -> str:
        """``path`` with the symlinks of its existing part resolved; what does not exist yet stays as it is."""
        done = ""
        for index, part in enumerate(parts := [item for item in path.split("/") if item]):
            step = f"{done}/{part}" if done else part
            found = self.existing(step)
            if found is None:
                return "/".join([step, *parts[index + 1 :]])
            if found.kind == "symlink":
                target = resolved(self.existing, step)
                if target is None:
                    raise Invalid(f"/{step} is a symlink that leads nowhere", hint="copy to another path")
                step = target
            done = step
        return done

    def parents(self, path: str) -> None:
        """The directories above ``path``: as they are where they exist, else new ones of the owner."""
        parent = posixpath.dirname(path)
        while parent:
            if parent in self._entries:
                if self._entries[parent].kind != "dir":
                    raise Invalid(f"/{parent} is not a directory", hint=f"/{path} would lie below it")
                return
            found = self._root.lstat(parent)
            if found is None:
                self._new.add(parent)
                found = Entry(parent, "dir", 0o755, self._owner.uid, self._owner.gid, self._epoch)
            elif found.kind != "dir":
                raise Invalid(f"/{parent} is not a directory", hint="the destination goes through it")
            self._entries[parent] = replace(found, path=parent)
            parent = posixpath.dirname(parent)

    def directory(self, path: str) -> None:
        """Make a directory that the copy itself needs: it takes nothing after the directory that is copied."""
        self.add(Entry(path, "dir", 0o755, self._owner.uid, self._owner.gid, self._epoch))

    def put(self, entry: Entry) -> None:
        """As ``add``, but whatever is of another kind makes room."""
        found = self.existing(entry.path)
        if found is not None and (found.kind == "dir") != (entry.kind == "dir"):
            below = f"{entry.path}/"
            for path in [path for path in self._entries if path == entry.path or path.startswith(below)]:
                del self._entries[path]
                self._new.discard(path)
            if entry.kind == "dir":
                self._new.add(entry.path)
            self._entries[entry.path] = entry
        self.add(entry)

    def add(self, entry: Entry) -> None:
        """Put ``entry`` at its path. An existing directory keeps its metadata; kinds may not clash."""
        name = entry.path.rpartition("/")[2]
        if name.startswith(WHITEOUT):
            raise Invalid(
                f"the file /{entry.path} would hide files of lower layers",
                hint=f"rename it: {WHITEOUT} means deletion",
            )
        parent = self._entries.get(entry.path.rpartition("/")[0])
        if parent is not None and parent.kind != "dir":
            raise Invalid(f"/{parent.path} is not a directory", hint=f"/{entry.path} would lie below it")
        found = self.existing(entry.path)
        if entry.kind == "dir" and found is not None:
            if found.kind != "dir":
                raise Invalid(f"cannot copy a directory over /{entry.path}, which is none")
            if entry.path:
                self._entries[entry.path] = replace(found, path=entry.path)
        elif found is not None and found.kind == "dir":
            raise Invalid(f"cannot copy a file over the directory /{entry.path}")
        else:
            if entry.kind == "dir":
                self._new.add(entry.path)  # nothing is below it but what is put there
            self._entries[entry.path] = entry
        if entry.path.rpartition("/")[0] not in self._entries:
            self.parents(entry.path)


def nothing(path: str, is_directory: bool) -> bool:
    """Leaves nothing out."""
    return False


def place(
    placed: Placed, sources: Sequence[Selected], dest: str, change: Change, excluded: Excluded = nothing
) -> None:
    """Place every source below or at ``dest`` (absolute; a trailing slash says it is a directory).

    ``change`` applies ``--chown`` and ``--chmod`` to each entry. ``excluded(path, is_directory)`` leaves entries out:
    a file by its name, what is inside a source directory by its path in there.
    """
    target = placed.real(posixpath.normpath(dest).strip("/"))
    found = placed.existing(target)
    into = dest.endswith(("/", "/.")) or (found is not None and found.kind == "dir") or not target
    if len(sources) > 1 and not into:
        raise Invalid(
            f"several sources need a directory as destination, and {dest!r} is none", hint="end it with '/'"
        )
    for source in sources:
        if source.parents is not None:
            _below(placed, source, target, change, excluded)
        elif source.entry.kind == "dir":
            if target and placed.existing(target) is None:
                placed.directory(target)
            _directory(placed, source, target, change, excluded)
        elif not excluded(source.name, False):
            path = posixpath.join(target, source.name) if into else target
            placed.add(change(replace(source.entry, path=path)))


def _below(placed: Placed, source: Selected, target: str, change: Change, excluded: Excluded) -> None:
    """``--parents``: the source at its own path below the target, the directories on the way as they were."""
    if excluded(source.name, source.entry.kind == "dir"):
        return
    for parent in source.parents or ():
        placed.add(change(replace(parent, path=posixpath.join(target, parent.path))))
    path = posixpath.join(target, source.name)
    if source.entry.kind == "dir":
        placed.add(change(source.entry.moved(path)))
        _directory(placed, source, path, change, excluded)
    else:
        placed.add(change(replace(source.entry, path=path)))


def _directory(placed: Placed, selected: Selected, target: str, change: Change, excluded: Excluded) -> None:
    """The contents of a directory, merged into ``target``."""
    entry, tree = selected.entry, selected.tree
    cut = len(entry.path) + 1 if entry.path else 0
    pending = [(entry.path, target)]
    while pending:
        source, into = pending.pop()
        for item in tree.iterdir(source):
            if excluded is not nothing and excluded(item.path[cut:], item.kind == "dir"):
                continue
            name = item.path.rpartition("/")[2]
            path = f"{into}/{name}" if into else name
            placed.add(change(item.moved(path)))
            if item.kind == "dir":
                pending.append((item.path, path))
