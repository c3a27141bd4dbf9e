"""HTTP and HTTPS to a server elsewhere, by the standard library."""

from __future__ import annotations

import http.client
import io
import ssl
from collections.abc import Mapping
from typing import IO
from urllib.parse import SplitResult

from slipway.client.connection import Answer
from slipway.errors import Invalid, Unavailable


class RemoteConnection:
    """One request and its answer. ``authority`` is PEM text: with it nobody else's certificate is believed."""

    def __init__(self, address: SplitResult, timeout: float | None, authority: str) -> None:
        self._server = address.geturl()
        if address.scheme == "https":
            context = _context(self._server, authority)
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                address.netloc, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(address.netloc, timeout=timeout)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
    ) -> Answer:
        chunked = body is not None and not isinstance(body, bytes)
        fields = dict(headers) | ({"Transfer-Encoding": "chunked"} if chunked else {})
        try:
            self._connection.request(method, path, body, fields, encode_chunked=chunked)
            answer = self._connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(
                f"the certificate of {self._server} is not trusted: {error.verify_message}",
                hint="`slipway tls ca` on the server prints its authority: slipway login … --ca FILE, or SLIPWAY_CA",
            ) from error
        except http.client.HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        return Answer(answer.status, answer.reason, io.BufferedReader(_Body(answer)))

    def close(self) -> None:
        self._connection.close()


class _Body(io.RawIOBase):
    """Raises ``ConnectionError`` where the library has errors of its own."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._answer.read1(len(buffer))
        except http.client.HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        if not data and len(buffer) and self._answer.length:
            raise ConnectionError("the answer broke off")
        buffer[: len(data)] = data
        return len(data)


def _context(server: str, authority: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authority or None)
    except ssl.SSLError as error:
        raise Invalid(f"the certificate to trust for {server} is damaged: {error}") from error
