"""Where this server keeps what must survive: on this machine, or where other servers see it, too."""

from __future__ import annotations

from pathlib import Path

from slipway.app.settings import Settings
from slipway.content import ContentStore, LocalStore
from slipway.state import Database


def open_database(settings: Settings) -> Database:
    url: str = settings["database.url"]
    return Database(url) if url else Database.sqlite(settings.data / "state.db")


def open_content(settings: Settings) -> ContentStore:
    if not settings["storage.url"]:
        return LocalStore(settings.data / "content")
    from slipway.content.bucket import open_bucket  # its client library is loaded where it is used

    return open_bucket(
        settings["storage.url"], settings["storage.access_key"], settings["storage.secret_key"]
    )


def signing_keys(settings: Settings) -> Path:
    """The directory of the projects' keys, among the keys that servers share; earlier it was beside them."""
    here, earlier = settings.keys / "signing", settings.data / "signing"
    if earlier.is_dir() and not here.exists():
        settings.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        earlier.rename(here)
    return here
