"""What the two ways to a server have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Protocol


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is read as it comes; reading raises ``OSError`` when it breaks off."""

    status: int
    reason: str
    body: IO[bytes]


class Connection(Protocol):
    """For one request. ``close`` is called whatever happened."""

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
    ) -> Answer:
        """Raises ``OSError``, also for an answer that is no HTTP. A file as ``body`` is sent in chunks."""
        ...

    def close(self) -> None: ...
