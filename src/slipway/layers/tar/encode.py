"""Headers, written deterministically: ustar where it fits, pax records for what does not."""

from __future__ import annotations

from functools import lru_cache

from slipway.layers.entry import Entry

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES = {
    "file": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6",
}  # fmt: skip
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_SPACES = 8 * 32  # the checksum's own field counts as spaces


def padding(size: int) -> bytes:
    """What fills a body of ``size`` bytes up to a whole block."""
    return bytes(-size % BLOCK)


def header(entry: Entry, epoch: int | None = None) -> bytes:
    """The header block of ``entry``, behind a pax block if it needs one. ``epoch`` is the latest mtime allowed."""
    name = entry.path.encode("utf-8", "surrogateescape")
    if entry.kind == "dir":
        name += b"/"
    link = entry.target.encode("utf-8", "surrogateescape") if entry.target else b""
    mtime = int(entry.mtime // 1)
    if epoch is not None and mtime > epoch:
        mtime = epoch
    size = entry.size if entry.kind == "file" else 0
    prefix, short = _split(name)
    plain = (
        short is not None
        and (not link or (len(link) <= 100 and link.isascii()))
        and 0 <= entry.uid <= _MAX_ID
        and 0 <= entry.gid <= _MAX_ID
        and size <= _MAX_SIZE
        and 0 <= mtime <= _MAX_SIZE
    )
    block = _ustar(
        name[:100] if short is None else short, entry.mode, _fit(entry.uid, _MAX_ID), _fit(entry.gid, _MAX_ID),
        _fit(size, _MAX_SIZE), _fit(mtime, _MAX_SIZE), _TYPES[entry.kind], link[:100], prefix, entry.device,
    )  # fmt: skip
    if plain and not entry.xattrs:
        return block
    return (
        _pax(_records(entry, name if short is None else b"", link, size, mtime), _fit(mtime, _MAX_SIZE))
        + block
    )


def _records(entry: Entry, name: bytes, link: bytes, size: int, mtime: int) -> dict[str, bytes]:
    """What does not fit into the ustar header; ``name`` only if it does not."""
    found: dict[str, bytes] = {}
    if name:
        found["path"] = name
    if len(link) > 100 or not link.isascii():
        found["linkpath"] = link
    if not (_is_utf8(name) and _is_utf8(link)):
        found["hdrcharset"] = b"BINARY"
    for key, value, most in (
        ("uid", entry.uid, _MAX_ID),
        ("gid", entry.gid, _MAX_ID),
        ("size", size, _MAX_SIZE),
        ("mtime", mtime, _MAX_SIZE),
    ):
        if not 0 <= value <= most:
            found[key] = str(value).encode()
    found.update({f"SCHILY.xattr.{key}": value for key, value in entry.xattrs.items()})
    return found


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fit(value: int, most: int) -> int:
    return value if 0 <= value <= most else 0


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """The ustar prefix and name; no name when it needs a pax record."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > 100:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _pax(records: dict[str, bytes], mtime: int) -> bytes:
    # In the order of the keys, but the character set first, for it says how to read the others.
    keys = sorted(records, key=lambda key: (key != "hdrcharset", key))
    body = b"".join(_record(key, records[key]) for key in keys)
    head = _ustar(b"PaxHeaders/0", 0o644, 0, 0, len(body), mtime, b"x", b"", b"", (0, 0))
    return head + body + padding(len(body))


def _record(key: str, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts its own digits."""
    rest = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ustar(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, link: bytes, prefix: bytes,
    device: tuple[int, int],
) -> bytes:  # fmt: skip
    owner, owner_sum = _owner(mode, uid, gid)
    tail, tail_sum = _tail(kind, link, prefix, device)
    middle = b"%011o\0%011o\0" % (size, mtime)
    checksum = sum(name) + owner_sum + sum(middle) + tail_sum + _SPACES
    return b"%b%b%b%06o\0 %b" % (name.ljust(100, b"\0"), owner, middle, checksum, tail)


@lru_cache(maxsize=1024)
def _owner(mode: int, uid: int, gid: int) -> tuple[bytes, int]:
    """The fields for mode and owner, and the sum of their bytes; few are different in one archive."""
    fields = b"%07o\0%07o\0%07o\0" % (mode & 0o7777, uid, gid)
    return fields, sum(fields)


@lru_cache(maxsize=1024)
def _tail(kind: bytes, link: bytes, prefix: bytes, device: tuple[int, int]) -> tuple[bytes, int]:
    """Everything behind the checksum, and the sum of its bytes."""
    fields = b"%b%bustar\x0000%b%07o\0%07o\0%b%b" % (
        kind, link.ljust(100, b"\0"), bytes(64), device[0] & _MAX_ID, device[1] & _MAX_ID,
        prefix.ljust(155, b"\0"), bytes(12),
    )  # fmt: skip
    return fields, sum(fields)
