"""Headers, written deterministically: ustar where it fits, pax records for what does not."""

from __future__ import annotations

from slipway.layers.entry import Entry

BLOCK = 512
END = bytes(2 * BLOCK)
_TYPES = {
    "file": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6",
}  # fmt: skip
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777


def padding(size: int) -> bytes:
    """What fills a body of ``size`` bytes up to a whole block."""
    return bytes(-size % BLOCK)


def header(entry: Entry, epoch: int | None = None) -> bytes:
    """The header block of ``entry``, behind a pax block if it needs one. ``epoch`` is the latest mtime allowed."""
    name = entry.path.encode("utf-8", "surrogateescape")
    if entry.kind == "dir":
        name += b"/"
    link = entry.target.encode("utf-8", "surrogateescape")
    mtime = int(entry.mtime // 1)
    if epoch is not None and mtime > epoch:
        mtime = epoch
    size = entry.size if entry.kind == "file" else 0
    records: list[tuple[str, bytes]] = []
    prefix, short = _split(name)
    if short is None:
        records.append(("path", name))
        prefix, short = b"", name[:100]
    if len(link) > 100 or not link.isascii():
        records.append(("linkpath", link))
    numbers = (
        ("uid", entry.uid, _MAX_ID),
        ("gid", entry.gid, _MAX_ID),
        ("size", size, _MAX_SIZE),
        ("mtime", mtime, _MAX_SIZE),
    )
    for key, value, most in numbers:
        if not 0 <= value <= most:
            records.append((key, str(value).encode()))
    records += [(f"SCHILY.xattr.{key}", entry.xattrs[key]) for key in sorted(entry.xattrs)]
    block = _ustar(
        short, prefix, entry.mode, _fit(entry.uid, _MAX_ID), _fit(entry.gid, _MAX_ID), _fit(size, _MAX_SIZE),
        _fit(mtime, _MAX_SIZE), _TYPES[entry.kind], link[:100], entry.device,
    )  # fmt: skip
    return _pax(records, _fit(mtime, _MAX_SIZE)) + block if records else block


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


def _pax(records: list[tuple[str, bytes]], mtime: int) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records))
    head = _ustar(b"PaxHeaders/0", b"", 0o644, 0, 0, len(body), mtime, b"x", b"", (0, 0))
    return head + body + padding(len(body))


def _record(key: str, value: bytes) -> bytes:
    """``LENGTH KEY=VALUE\\n``, where the length counts its own digits."""
    rest = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ustar(
    name: bytes, prefix: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, link: bytes,
    device: tuple[int, int],
) -> bytes:  # fmt: skip
    block = (
        b"%b%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00        %b%bustar\x0000%b%07o\x00%07o\x00%b%b"
        % (
            name.ljust(100, b"\0"), mode & 0o7777, uid, gid, size, mtime, kind, link.ljust(100, b"\0"), bytes(64),
            device[0] & _MAX_ID, device[1] & _MAX_ID, prefix.ljust(155, b"\0"), bytes(12),
        )
    )  # fmt: skip
    return b"%b%06o\0 %b" % (block[:148], sum(block), block[156:])
