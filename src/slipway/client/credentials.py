"""Where a login is kept: one JSON file, readable by its owner only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from slipway.base.files import atomic_write

DEFAULT_SOCKET = "/run/slipway/slipway.sock"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The server to talk to and the token for it; no token on the server's own socket."""

    server: str
    token: str = ""

    @staticmethod
    def path() -> Path:
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return Path(base) / "slipway" / "login.json"

    @classmethod
    def load(cls, server: str = "") -> Credentials:
        """``server`` (a flag), else SLIPWAY_SERVER, else the last login, else this machine's socket.

        Root on the server's machine needs no login: when the socket is there, it wins over a saved login.
        """
        wanted = server or os.environ.get("SLIPWAY_SERVER", "")
        saved = cls._saved()
        if wanted:
            token = os.environ.get("SLIPWAY_TOKEN", "")
            return cls(wanted, token or (saved.token if saved and saved.server == wanted else ""))
        if os.access(DEFAULT_SOCKET, os.R_OK | os.W_OK):
            return cls(f"unix://{DEFAULT_SOCKET}")
        return saved or cls(f"unix://{DEFAULT_SOCKET}")

    @classmethod
    def _saved(cls) -> Credentials | None:
        try:
            value = json.loads(cls.path().read_bytes())
            return cls(value["server"], value["token"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self) -> Path:
        path = self.path()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_write(path, json.dumps({"server": self.server, "token": self.token}), 0o600)
        return path
