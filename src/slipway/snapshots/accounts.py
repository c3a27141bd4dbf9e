"""Users and groups of an image, looked up in its own /etc/passwd and /etc/group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from slipway.errors import Invalid

_LIMIT = 4 * 1024 * 1024


class Files(Protocol):
    """A root whose small files can be read; ``RootView`` is one."""

    def read(self, path: str, limit: int = ..., /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Account:
    """Numeric ids, supplementary groups, and the home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve_user(text: str, root: Files) -> Account:
    """``user``, ``uid``, ``user:group``, ``uid:gid``; empty is root. Raises ``Invalid`` for an unknown name."""
    user, _, group = (text or "0").partition(":")
    row = next((fields for fields in _rows(root, "etc/passwd", 6) if user in (fields[0], fields[2])), None)
    if row is None and not _is_number(user):
        raise Invalid(
            f"there is no user {user!r} in the image's /etc/passwd", hint="create it first, or use a number"
        )
    uid = int(row[2]) if row else int(user)
    gid = int(row[3]) if row else 0
    home = row[5] if row and row[5] else "/"
    if group:
        return Account(uid, _group(group, root), (), home)
    groups = tuple(
        int(fields[2]) for fields in _rows(root, "etc/group", 4) if row and row[0] in fields[3].split(",")
    )
    return Account(uid, gid, groups, home)


def _group(name: str, root: Files) -> int:
    for fields in _rows(root, "etc/group", 3):
        if fields[0] == name:
            return int(fields[2])
    if not _is_number(name):
        raise Invalid(f"there is no group {name!r} in the image's /etc/group")
    return int(name)


def _rows(root: Files, file: str, least: int) -> list[list[str]]:
    rows = [line.split(":") for line in read_lines(root, file)]
    return [
        row for row in rows if len(row) >= least and _is_number(row[2]) and (least < 6 or _is_number(row[3]))
    ]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def read_lines(root: Files, path: str) -> list[str]:
    """The lines of a small text file of the root; none if it is not there."""
    return (root.read(path, _LIMIT) or b"").decode(errors="replace").splitlines()
