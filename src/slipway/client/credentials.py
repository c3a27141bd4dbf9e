"""Where a login is kept: one JSON file, readable by its owner only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import Invalid

_RUN = "/run/slipway"  # the setting `run` of a server that was not told otherwise


@dataclass(frozen=True, slots=True)
class Credentials:
    """The server to talk to and the token for it; no token on the server's own socket.

    ``authority`` is PEM text: an HTTPS server is believed because of it alone; without, because of the system's.
    """

    server: str
    token: str = ""
    authority: str = ""

    @staticmethod
    def path() -> Path:
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return Path(base) / "slipway" / "login.json"

    @classmethod
    def load(cls, server: str = "") -> Credentials:
        """``server`` (a flag), else SLIPWAY_SERVER, else the last login, else this machine's socket (in SLIPWAY_RUN).

        Root on the server's machine needs no login: when the socket is there, it wins over a saved login.
        """
        wanted = server or os.environ.get("SLIPWAY_SERVER", "")
        saved = cls._saved()
        if wanted:
            known = saved if saved and saved.server == wanted else cls(wanted)
            token = os.environ.get("SLIPWAY_TOKEN", "") or known.token
            return cls(wanted, token, read_authority(os.environ.get("SLIPWAY_CA", "")) or known.authority)
        socket = f"{os.environ.get('SLIPWAY_RUN') or _RUN}/slipway.sock"
        if os.access(socket, os.R_OK | os.W_OK):
            return cls(f"unix://{socket}")
        return saved or cls(f"unix://{socket}")

    @classmethod
    def _saved(cls) -> Credentials | None:
        try:
            value = json.loads(cls.path().read_bytes())
            return cls(value["server"], value["token"], value.get("authority", ""))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self) -> Path:
        path = self.path()
        from slipway.base.files import atomic_write

        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        value = {"server": self.server, "token": self.token, "authority": self.authority}
        atomic_write(path, json.dumps(value), 0o600)
        return path


def read_authority(file: str) -> str:
    """The PEM text in ``file``, if one is named. Raises ``Invalid``."""
    if not file:
        return ""
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the certificate {file} cannot be read: {error}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Invalid(
            f"{file} has no certificate in PEM form", hint="`slipway tls ca` on the server prints it"
        )
    return text
