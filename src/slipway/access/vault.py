"""Other people's secrets, which we have to know in full to use them: encrypted in the database."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from slipway.base.files import make_once
from slipway.errors import Invalid


class Vault:
    """Seals with a key kept in ``keys``, made at first use and readable by root only: a copy of the database alone
    tells nothing."""

    def __init__(self, keys: Path) -> None:
        path = keys / "vault.key"
        if not path.exists():
            keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            make_once(path, Fernet.generate_key(), 0o600)
        self._fernet = Fernet(path.read_bytes())

    def seal(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode() if secret else ""

    def open(self, sealed: str) -> str:
        """Raises ``Invalid`` when it was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode() if sealed else ""
        except InvalidToken as error:
            raise Invalid("a stored secret was sealed with another key", hint="set it again") from error
