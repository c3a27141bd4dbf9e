"""Fields of tar headers and pax records, parsed."""

from __future__ import annotations

import re
from functools import lru_cache

from slipway.errors import Invalid

_OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)
_WHOLE = re.compile(rb"[0-9]{1,19}")
_TIME = re.compile(rb"-?[0-9]{1,19}(\.[0-9]{0,30})?")
_MAX_TIME = 2**40


@lru_cache(maxsize=2048)
def number(field: bytes, what: str) -> int:
    """An octal field, or GNU's base-256 form. Remembered, for most of an archive's fields repeat."""
    if field[:1] == b"\xff":
        value = int.from_bytes(field, "big", signed=True)
    elif field[:1] >= b"\x80":
        value = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    else:
        match = _OCTAL.fullmatch(field)
        if match is None:
            raise Invalid(f"the archive is damaged: the {what} is not a number")
        return int(match[1] or b"0", 8)
    if abs(value) > 2**62:
        raise Invalid(f"the archive has an impossible {what}")
    return value


def whole_number(raw: bytes, what: str, most: int) -> int:
    """The decimal form of pax records."""
    if not _WHOLE.fullmatch(raw) or int(raw) > most:
        raise Invalid(f"the archive is damaged: the {what} is not a number that can be")
    return int(raw)


def time_of(field: bytes, records: dict[str, bytes]) -> float:
    """The modification time, from the pax record if there is one."""
    value: float
    if "mtime" in records:
        raw = records["mtime"]
        if not _TIME.fullmatch(raw):
            raise Invalid("the archive is damaged: the mtime is not a number")
        value = float(raw) if b"." in raw else int(raw)
    else:
        value = number(field, "mtime")
    if abs(value) > _MAX_TIME:
        raise Invalid("the archive has an impossible mtime")
    return value


def text(raw: bytes) -> str:
    """A name: UTF-8, other bytes as surrogates."""
    if b"\0" in raw:
        raise Invalid("the archive has a name with a NUL in it")
    return raw.decode("utf-8", "surrogateescape")


def parse_records(body: bytes) -> dict[str, bytes]:
    """Pax records, ``LENGTH KEY=VALUE\\n``. An empty value takes the record back, except an attribute's."""
    found: dict[str, bytes] = {}
    position = 0
    while position < len(body):
        space = body.find(b" ", position, position + 20)
        if space < 0 or not _WHOLE.fullmatch(body, position, space):
            raise Invalid("the archive is damaged: a pax record has no length")
        end = position + int(body[position:space])
        key, sign, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or end <= space + 1 or not sign or body[end - 1 : end] != b"\n":
            raise Invalid("the archive is damaged: a pax record is malformed")
        name = key.decode("utf-8", "surrogateescape")
        if value or name.startswith("SCHILY.xattr."):
            found[name] = value
        else:
            found.pop(name, None)
        position = end
    return found
