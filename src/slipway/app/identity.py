"""What a server calls itself, so that its objects in a cluster are told from another's."""

from __future__ import annotations

import hashlib
from pathlib import Path

from slipway.base.files import atomic_write
from slipway.base.ids import new_id


def server_id(data: Path) -> str:
    """Of one machine; made once."""
    path = data / "server-id"
    if not path.exists():
        atomic_write(path, new_id(16))
    return path.read_text().strip()


def site_id(keys: Path) -> str:
    """The same for all servers that have the same keys: what one of them left, the next one finds."""
    return hashlib.sha256(b"slipway site\0" + (keys / "vault.key").read_bytes()).hexdigest()[:16]
