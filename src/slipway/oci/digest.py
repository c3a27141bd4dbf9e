"""Content digests and chain ids (OCI image-spec: descriptor.md, config.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from slipway.errors import Invalid

_LENGTHS = {"sha256": 64, "sha512": 128}
_FORM = re.compile(r"(sha256|sha512):([0-9a-f]+)", re.ASCII)


class Hasher(Protocol):
    """The part of a ``hashlib`` object that is used."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """``algorithm:hex`` of a registered algorithm, lower case, of the exact length."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        if _LENGTHS.get(self.algorithm) != len(self.hex) or not re.fullmatch(r"[0-9a-f]+", self.hex):
            raise Invalid(
                f"not a digest: {f'{self.algorithm}:{self.hex}'[:200]!r}",
                hint="a digest is sha256: and 64 hex digits, or sha512: and 128",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``Invalid`` for anything but a well-formed sha256 or sha512 digest."""
        match = _FORM.fullmatch(text)
        if not match:
            raise Invalid(
                f"not a digest: {text[:200]!r}",
                hint="a digest is sha256: and 64 hex digits, or sha512: and 128",
            )
        return cls(match[1], match[2])

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @classmethod
    def finish(cls, hasher: Hasher, algorithm: str = "sha256") -> Self:
        return cls(algorithm, hasher.hexdigest())

    def hasher(self) -> Hasher:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        return self.hex[:12]


def chain_id(diff_ids: Sequence[Digest]) -> Digest | None:
    """The ChainID of a stack of layers, bottom first; ``None`` for no layers (scratch)."""
    chain: Digest | None = None
    for diff_id in diff_ids:
        chain = diff_id if chain is None else Digest.of(f"{chain} {diff_id}".encode())
    return chain
