"""HTTP over the platform's unix socket or TCP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any
from urllib.parse import urlsplit

from slipway.client.connection import Answer, Connection
from slipway.client.unix import UnixConnection
from slipway.errors import KINDS, Interrupted, SlipwayError, Unavailable

API = "/api/v1"
MAX_LINE = 16 * 1024 * 1024
_PIECE = 1024 * 1024


class Transport:
    """Requests to one server, ``unix:///path`` or ``http(s)://host:port``; a connection for each request."""

    def __init__(
        self, server: str, token: str = "", timeout: float | None = None, authority: str = ""
    ) -> None:
        self.server = server
        self._authority = authority
        self._token = token
        self._timeout = timeout

    @property
    def is_local(self) -> bool:
        return self.server.startswith("unix://")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer (``None`` for an empty one)."""
        with closing(self._connection()) as connection:
            answer = self._send(connection, method, path, body)
            try:
                data = answer.body.read()
            except OSError as error:
                raise self._broken(error) from error
            return json.loads(data) if data else None

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[dict[str, Any]]:
        """The events of an NDJSON answer as they come. Raises ``Interrupted`` when it breaks off."""
        with closing(self._connection()) as connection:
            answer = self._send(connection, method, path, body)
            try:
                while line := answer.body.readline(MAX_LINE):
                    if line.strip():
                        yield json.loads(line)
            except (OSError, ValueError) as error:
                raise Interrupted(
                    "the server went away before the work was done",
                    hint="run the same command again: it goes on where it can",
                ) from error

    def pieces(self, path: str) -> Iterator[bytes]:
        """A large answer as it comes. Raises ``Unavailable`` when it breaks off."""
        with closing(self._connection()) as connection:
            answer = self._send(connection, "GET", path, None)
            try:
                while piece := answer.body.read(_PIECE):
                    yield piece
            except OSError as error:
                raise self._broken(error) from error

    def _broken(self, error: OSError) -> Unavailable:
        return Unavailable(f"the answer of {self.server} broke off: {error}")

    def _connection(self) -> Connection:
        address = urlsplit(self.server)
        if address.scheme == "unix":
            return UnixConnection(address.path, self._timeout)
        from slipway.client.remote import RemoteConnection

        return RemoteConnection(address, self._timeout, self._authority)

    def _send(self, connection: Connection, method: str, path: str, body: Any) -> Answer:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data: bytes | IO[bytes] | None = None
        if hasattr(body, "read"):
            headers["Content-Type"] = "application/x-tar"
            data = body
        elif body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            answer = connection.ask(method, path, headers, data)
        except OSError as error:
            raise Unavailable(
                f"the platform does not answer at {self.server}: {error}",
                hint="`slipway up` starts it on this machine; `slipway login URL` names another",
            ) from error
        if answer.status >= 400:
            raise _error(answer)
        return answer


def _error(answer: Answer) -> SlipwayError:
    raw = answer.body.read(1024 * 1024)
    try:
        value = json.loads(raw)
        return error_from(value["error"])
    except (ValueError, KeyError, TypeError):
        text = raw[:300].decode(errors="replace").strip()
        return SlipwayError(f"the server answered {answer.status}: {text or answer.reason}")


def error_from(value: dict[str, Any]) -> SlipwayError:
    """The exception a server's error object stands for."""
    kind = KINDS.get(value.get("kind", ""), SlipwayError)
    context = value.get("context") or {}
    context = {key: item for key, item in context.items() if key not in ("message", "hint", "self")}
    return kind(value.get("message", "unknown error"), hint=value.get("hint", ""), **context)
