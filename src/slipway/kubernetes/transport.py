"""Requests to one API server: the credentials, the limits, and patience with a server that is away for a moment."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from slipway.base.keepalive import keepalive_socket
from slipway.base.reading import read_up_to
from slipway.errors import Exhausted, Interrupted, Invalid, SlipwayError, Unavailable
from slipway.kubernetes.answers import Expired, error_of, retry_after, status_of
from slipway.kubernetes.kubeconfig import Endpoint

MOST_JSON = 64 * 1024 * 1024
_MOST_STATUS = 256 * 1024
_AT_ONCE = 16
_PATIENCE = (0.1, 0.5, 2.0)  # seconds between the attempts
_LONGEST_WAIT = 30.0
_ORDINARY = aiohttp.ClientTimeout(total=75, connect=10)  # the API server itself gives up after 60 seconds
_HANDSHAKES = {400: "it has no such container", 404: "there is no such Pod", 500: "does its container run?"}


class Transport:
    """One session. ``requests`` counts what was sent, retries too."""

    def __init__(self, endpoint: Endpoint, patience: tuple[float, ...] | None = None) -> None:
        """Opens nothing yet. ``patience``: seconds between attempts. Raises ``Invalid`` for unusable certificates."""
        self.endpoint = endpoint
        self.requests = 0
        self._patience = _PATIENCE if patience is None else patience
        self._places = asyncio.Semaphore(_AT_ONCE)
        connector = aiohttp.TCPConnector(
            ssl=endpoint.ssl_context() or False,
            limit=0,
            socket_factory=keepalive_socket,
            keepalive_timeout=60,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=_ORDINARY,
            read_bufsize=256 * 1024,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def server(self) -> str:
        return self.endpoint.server

    async def aclose(self) -> None:
        await self._session.close()

    async def json(
        self, method: str, path: str, what: str, *, params: Mapping[str, str] | None = None, body: Any = None,
        content_type: str = "application/json", repeatable: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """An ordinary request's answer.

        ``repeatable``: sending it twice does no harm; else it is repeated only when it surely did not get there.
        Raises what ``answers`` makes of a refusal, ``Unavailable`` when attempts are used up, ``Exhausted`` above
        ``MOST_JSON``.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {
            "Accept": "application/json",
            **({"Content-Type": content_type} if data is not None else {}),
        }
        async with self._places:
            for pause in (*self._patience, None):
                try:
                    return await self._once(method, path, what, params, data, headers)
                except Unavailable as error:
                    unsent = error.context.get("unsent")
                    if pause is None or isinstance(error, Expired) or not (repeatable or unsent):
                        raise
                    wait = error.context.get("retry_after")
                    if wait is not None and wait > _LONGEST_WAIT:
                        raise
                    await asyncio.sleep((pause if wait is None else wait) * (1 + random.random() / 4))
        raise AssertionError("unreachable")

    async def _once(
        self, method: str, path: str, what: str, params: Mapping[str, str] | None, data: bytes | None,
        headers: Mapping[str, str],
    ) -> dict[str, Any]:  # fmt: skip
        async with self.open(method, path, what, params=params, data=data, headers=headers) as response:
            answer = await read_up_to(response.content, MOST_JSON)
        if len(answer) > MOST_JSON:
            raise Exhausted(f"could not {what}: the answer is larger than {MOST_JSON} bytes")
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise Invalid(
                f"{self.server} answered with something that is no JSON", hint="is it an API server?"
            ) from error
        if not isinstance(found, dict):
            raise Invalid(
                f"{self.server} answered with something that is no object", hint="is it an API server?"
            )
        return found

    @asynccontextmanager
    async def open(
        self, method: str, path: str, what: str, *, params: Mapping[str, str] | None = None,
        data: bytes | None = None, headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """An answer that is read while it comes, asked for once. Errors while it is read are mapped, too."""
        with self._mapped(what):
            async with self._session.request(
                method, self.server + path, params=params, data=data, headers=self._headers(headers),
                timeout=timeout or _ORDINARY, allow_redirects=False, **self._how(),
            ) as response:  # fmt: skip
                if response.status >= 300:
                    raise await self._refusal(response, what)
                yield response

    @asynccontextmanager
    async def websocket(
        self,
        path: str,
        what: str,
        params: list[tuple[str, str]],
        protocols: tuple[str, ...],
        most_message: int,
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket, asked for once. A refused handshake's body is lost in it, so only its status is known."""
        with self._mapped(what):
            async with self._session.ws_connect(
                self.server + path, params=params, protocols=protocols, headers=self._headers(None),
                max_msg_size=most_message, **self._how(),
            ) as socket_:  # fmt: skip
                yield socket_

    def _headers(self, more: Mapping[str, str] | None) -> dict[str, str]:
        if self._session.closed:
            raise Interrupted(f"the connection to {self.server} was closed", hint="the cluster was removed")
        self.requests += 1
        authorization = self.endpoint.authorization
        return {
            "User-Agent": "slipway",
            **(more or {}),
            **({"Authorization": authorization} if authorization else {}),
        }

    def _how(self) -> dict[str, Any]:
        endpoint = self.endpoint
        return {"proxy": endpoint.proxy or None, "server_hostname": endpoint.server_name or None}

    async def _refusal(self, response: aiohttp.ClientResponse, what: str) -> SlipwayError:
        status = status_of(await read_up_to(response.content, _MOST_STATUS), response.status)
        error = error_of(status, response.status, what, self.server)
        if isinstance(error, Unavailable):
            wait = retry_after(status, response.headers.get("Retry-After"))
            # Turned away at the door, or asked to come again: nothing was done.
            error.context |= {"retry_after": wait, "unsent": response.status == 429 or wait is not None}
        return error

    def _mapped(self, what: str) -> _Mapped:
        return _Mapped(self.server, what)


class _Mapped:
    """What aiohttp raises, as ours."""

    def __init__(self, server: str, what: str) -> None:
        self._server, self._what = server, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, aiohttp.WSServerHandshakeError):
            said = _HANDSHAKES.get(error.status, error.message)
            raise error_of({"message": said}, error.status, self._what, self._server) from error
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            raise Invalid(
                f"the certificate of {self._server} is not one that the kubeconfig trusts: {error.certificate_error}",
                hint="check certificate-authority-data, and that the address is one the certificate is for",
            ) from error
        if isinstance(error, (aiohttp.ClientError, TimeoutError, ConnectionError)):
            raise Unavailable(
                f"the cluster at {self._server} does not answer: {str(error) or type(error).__name__}",
                hint="is its API server running, and reachable from this machine?",
                unsent=isinstance(error, aiohttp.ClientConnectorError),
            ) from error
