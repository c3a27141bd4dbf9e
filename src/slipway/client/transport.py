"""HTTP over the platform's unix socket or TCP."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from typing import IO, Any
from urllib.parse import urlsplit

from slipway.errors import KINDS, Invalid, SlipwayError, Unavailable

MAX_LINE = 16 * 1024 * 1024
_PIECE = 1024 * 1024


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


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
            response = self._send(connection, method, path, body)
            data = response.read()
            return json.loads(data) if data else None

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[dict[str, Any]]:
        """The events of an NDJSON answer as they come."""
        with closing(self._connection()) as connection:
            response = self._send(connection, method, path, body)
            while line := response.readline(MAX_LINE):
                if line.strip():
                    yield json.loads(line)

    def pieces(self, path: str) -> Iterator[bytes]:
        """A large answer as it comes. Raises ``Unavailable`` when it breaks off."""
        with closing(self._connection()) as connection:
            response = self._send(connection, "GET", path, None)
            try:
                while piece := response.read(_PIECE):
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"the answer of {self.server} broke off: {error}") from error

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.server)
        if parts.scheme == "unix":
            return _UnixConnection(parts.path, self._timeout)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.netloc, timeout=self._timeout, context=self._context)
        return http.client.HTTPConnection(parts.netloc, timeout=self._timeout)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cadata=self._authority or None)
        except ssl.SSLError as error:
            raise Invalid(f"the certificate to trust for {self.server} is damaged: {error}") from error

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any
    ) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data: bytes | IO[bytes] | None = None
        if hasattr(body, "read"):
            headers |= {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
            data = body
        elif body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            connection.request(method, path, data, headers, encode_chunked=hasattr(body, "read"))
            response = connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(
                f"the certificate of {self.server} is not trusted: {error.verify_message}",
                hint="`slipway tls ca` on the server prints its authority: slipway login … --ca FILE, or SLIPWAY_CA",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"the platform does not answer at {self.server}: {error}",
                hint="`slipway up` starts it on this machine; `slipway login URL` names another",
            ) from error
        if response.status >= 400:
            raise _error(response)
        return response


def _error(response: http.client.HTTPResponse) -> SlipwayError:
    raw = response.read(1024 * 1024)
    try:
        value = json.loads(raw)
        return error_from(value["error"])
    except (ValueError, KeyError, TypeError):
        text = raw[:300].decode(errors="replace").strip()
        return SlipwayError(f"the server answered {response.status}: {text or response.reason}")


def error_from(value: dict[str, Any]) -> SlipwayError:
    """The exception a server's error object stands for."""
    kind = KINDS.get(value.get("kind", ""), SlipwayError)
    context = value.get("context") or {}
    context = {key: item for key, item in context.items() if key not in ("message", "hint", "self")}
    return kind(value.get("message", "unknown error"), hint=value.get("hint", ""), **context)
