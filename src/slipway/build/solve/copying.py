"""The entries of a COPY, ADD or WORKDIR layer."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from slipway.build.above import Root
from slipway.build.copy import (
    Ownership,
    Placed,
    Selected,
    nothing,
    place,
    resolve_owner,
    select,
    select_with_parents,
)
from slipway.build.ignore import IgnoreFile
from slipway.build.plan import CopyOp
from slipway.build.remote import Fetched, HttpSource, RemoteSource
from slipway.build.solve.archives import unpacked
from slipway.build.tree import NO_FILES, Tree
from slipway.errors import Invalid
from slipway.layers import Entry
from slipway.snapshots.accounts import resolve_user

_OCTAL = re.compile(r"[0-7]{3,4}")
_SYMBOLIC = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")


def directory_entries(root: Root, path: str, user: str) -> list[Entry]:
    """What must be made so that the directory exists, owned by ``user``; nothing if it does."""
    account = resolve_user(user, root)
    placed = Placed(root, Ownership(account.uid, account.gid), time.time())
    real = placed.real(path)
    if placed.existing(real) is not None:
        return []
    placed.add(Entry(real, "dir", 0o755, account.uid, account.gid, time.time()))
    return placed.entries()


def selected(operation: CopyOp, tree: Tree) -> list[Selected]:
    """What the operation's paths mean in ``tree``. Raises ``NotFound``."""
    if not operation.sources:
        return []
    choose = select_with_parents if operation.parents else select
    return [replace(item, unpack=operation.unpack) for item in choose(tree, operation.sources)]


def fetched(operation: CopyOp, found: Fetched, source: RemoteSource) -> Selected:
    """What was fetched as a source: a file by the name in its address, or the content of a directory."""
    entry = found.tree.lstat(found.path)
    assert entry is not None
    name = source.name if isinstance(source, HttpSource) else ""
    return Selected(found.tree, entry, name, unpack=operation.unpack_remote)


def copy_entries(operation: CopyOp, sources: Sequence[Selected], root: Root) -> list[Entry]:
    """Where everything lands that ``operation`` copies onto ``root``.

    What comes out of an archive keeps the owners and modes it has in there, as BuildKit has it.
    """
    owner = resolve_owner(operation.chown, root) if operation.chown else None
    change = _change(owner, operation.chmod)
    placed = Placed(root, owner, time.time())
    excluded = IgnoreFile.parse("\n".join(operation.exclude), "--exclude") if operation.exclude else nothing
    plain = [_document(name, content) for name, content in operation.heredocs]
    for item in sources:
        archive = unpacked(item.tree, item.entry) if item.unpack and item.entry.kind == "file" else None
        if archive is None:
            plain.append(item)
            continue
        _unpack(placed, archive, posixpath.normpath(operation.dest).strip("/"))
    if plain:
        place(placed, plain, operation.dest, change, excluded)
    return placed.entries()


def _unpack(placed: Placed, archive: Sequence[Entry], dest: str) -> None:
    """Everything where tar would put it: through links to directories, in the place of what is of another kind."""
    target = placed.real(dest)
    parents: dict[str, str] = {}  # of this archive, where they really are
    files: dict[str, str] = {}  # by their names in there, where they came to be: a link may be to a link
    for entry in archive:
        parent, _, name = entry.path.rpartition("/")
        if parent not in parents:
            parents[parent] = placed.real(posixpath.join(target, parent))
        path = posixpath.join(parents[parent], name)
        files[entry.path] = path
        if entry.kind == "hardlink":
            files[entry.path] = files.get(entry.target, posixpath.join(target, entry.target))
            entry = replace(entry, target=files[entry.path])
        elif entry.kind != "file":
            parents.clear()  # it may have come instead of a link, or be one
        placed.put(entry.moved(path))


def _document(name: str, content: str) -> Selected:
    data = content.encode()

    def opened() -> int:
        fd = os.memfd_create(name)
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    entry = Entry(name, "file", 0o644, mtime=time.time(), size=len(data), open=opened)
    return Selected(NO_FILES, entry, name)


def _change(owner: Ownership | None, chmod: str) -> Callable[[Entry], Entry]:
    mode_of = _mode(chmod)
    if owner is None and not chmod:
        return lambda entry: entry

    def change(entry: Entry) -> Entry:
        mode = mode_of(entry) if entry.kind != "symlink" else entry.mode
        who = owner or entry
        return entry.owned(mode, who.uid, who.gid)

    return change


def _mode(text: str) -> Callable[[Entry], int]:
    """``--chmod``: octal, or symbolic clauses as chmod(1) has them. Raises ``Invalid``."""
    if not text:
        return lambda entry: entry.mode
    if _OCTAL.fullmatch(text):
        return lambda entry: int(text, 8)
    clauses = [_SYMBOLIC.fullmatch(part) for part in text.split(",")]
    if not all(clauses):
        raise Invalid(f"not a mode: {text!r}", hint="e.g. --chmod=755 or --chmod=u=rwX,go=rX")
    found = [match.groups() for match in clauses if match]

    def mode_of(entry: Entry) -> int:
        mode = entry.mode
        for who, operator, what in found:
            mode = _clause(mode, who or "a", operator, what, entry.kind == "dir")
        return mode

    return mode_of


_BITS = {"r": 4, "w": 2, "x": 1}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def _clause(mode: int, who: str, operator: str, what: str, directory: bool) -> int:
    everybody = "ugo" if "a" in who else who
    executable = directory or bool(mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH))
    bits = cleared = 0
    for letter in everybody:
        value = sum(_BITS[char] for char in set(what) & set("rwx"))
        if "X" in what and executable:
            value |= 1
        bits |= value << _SHIFT[letter]
        cleared |= 7 << _SHIFT[letter]
        if "s" in what and letter in "ug":
            bits |= stat.S_ISUID if letter == "u" else stat.S_ISGID
    if "t" in what:
        bits |= stat.S_ISVTX
    if operator == "+":
        return mode | bits
    return mode & ~bits if operator == "-" else (mode & ~cleared) | bits
