"""``--chown``: names and numbers, looked up in the stage's own /etc/passwd and /etc/group."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.errors import Invalid
from slipway.snapshots.accounts import Files, read_lines

_MAX_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class Ownership:
    uid: int
    gid: int


def resolve_owner(text: str, root: Files) -> Ownership:
    """The ids of ``user[:group]``. Without a group it is the same *number* as the user's.

    Raises ``Invalid`` for a name that the stage does not know.
    """
    user, sign, group = text.partition(":")
    uid = _lookup(user, "etc/passwd", "user", root)
    return Ownership(uid, _lookup(group, "etc/group", "group", root) if sign and group else uid)


def _lookup(name: str, file: str, what: str, root: Files) -> int:
    if name.isascii() and name.isdigit():
        number = int(name)
        if number > _MAX_ID:
            raise Invalid(f"the {what} id {name} is too large")
        return number
    for line in read_lines(root, file):
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdigit():
            return int(fields[2])
    raise Invalid(
        f"there is no {what} {name!r} in the image's /{file}", hint="create it first, or use a number"
    )
