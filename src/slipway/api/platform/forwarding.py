"""Requests that only the leading server can answer, handed on to it by the others.

What changes something, and what workers of builds ask, concerns work that lives in the leader's process. What only
looks is answered by whichever server was asked. Bodies are passed on as they come, in both directions; when the client
leaves, so does the request to the leader, and what it had begun ends there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import aiohttp
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from slipway.api.platform.errors import body as error_body
from slipway.api.platform.errors import respond
from slipway.api.platform.streams import NDJSON
from slipway.base.keepalive import keepalive_socket
from slipway.errors import Interrupted, SlipwayError, Unavailable

API = "/api/v1/"
_WORKERS = f"{API}workers/"
_MARK = b"slipway-forwarded"
_NOT_LEADING = "Slipway-Not-Leading"  # an answer's header: nothing was done, ask who does
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_HERE = ("login", "oidc")  # whoever is asked: they are rows of the database
_WAIT_SECONDS = 60.0  # for a leader: longer than a new one needs to be found and to take charge
_PAUSE = 0.5
_CONNECT_SECONDS = 5.0
# Of one connection and not of the request (RFC 9110, 7.6.1), and what our own server says.
_LEFT_OUT = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
        b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"date", b"server",
    }
)  # fmt: skip
_OURS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
Headers = Iterable[tuple[bytes, bytes]]


class Leaders(Protocol):
    """Who leads. ``leads`` is of this very server."""

    leads: bool

    async def leader(self) -> str:
        """Its URL; empty while nobody does."""
        ...

    def forget(self) -> None:
        """It did not answer."""
        ...


def is_leaders(method: str, path: str) -> bool:
    """Whether a request is for the one who leads."""
    if not path.startswith(API):
        return False
    room = path[len(API) :].partition("/")[0]
    return path.startswith(_WORKERS) or (method not in _LOOKING and room not in _HERE)


class Forwarding:
    """The application ``app`` for a server of several. ``busy`` is how many of the leader's requests go on here,
    without those of workers, which belong to others."""

    def __init__(self, app: ASGIApp, leaders: Leaders, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._app = app
        self._leaders = leaders
        self._wait = wait_seconds
        self._session: aiohttp.ClientSession | None = None
        self.busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_leaders(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            if await self._handed_on(scope, receive, send):
                return
        except SlipwayError as error:
            await _refuse(error, scope, receive, send)
            return
        counts = not scope["path"].startswith(_WORKERS)
        self.busy += counts
        try:
            await self._app(scope, receive, send)
        finally:
            self.busy -= counts

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _leader(self, *, forwarded: bool = False) -> str:
        """Its URL, or nothing where that is this server. Raises ``Unavailable`` when nobody leads for too long.

        A request that came from another server goes no further: that one is told to ask again.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait
        while not self._leaders.leads:
            found = "" if forwarded else await self._leaders.leader()
            if found:
                return found
            if forwarded or loop.time() > end:
                raise Unavailable("no server leads at the moment", hint="one does within half a minute")
            await asyncio.sleep(_PAUSE)
        return ""

    async def _handed_on(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether another server answered; else this one leads.

        Raises ``Unavailable`` when no answer has begun; one that breaks off breaks off for the client, too.
        """
        forwarded = any(name == _MARK for name, _ in scope["headers"])
        body = _Body(receive, scope["headers"])
        loop = asyncio.get_running_loop()
        end = loop.time() + self._wait
        while leader := await self._leader(forwarded=forwarded):
            try:
                async with self._asked(leader, scope, body) as response:
                    if _NOT_LEADING not in response.headers:
                        await _Answer(response, body, send).pass_on()
                        return True
                failed: Exception = Unavailable("it leads no more, or not yet")
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                failed = error
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                self._leaders.forget()
                raise _broken(leader, error) from error
            # Of the body nothing was sent yet. It may be gone or not ready, and another lead soon.
            self._leaders.forget()
            if loop.time() > end:
                raise _broken(leader, failed) from failed
            await asyncio.sleep(_PAUSE)
        return False

    def _asked(
        self, leader: str, scope: Scope, body: _Body
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=keepalive_socket)
            self._session = aiohttp.ClientSession(
                auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=256 * 1024,
                connector=connector, timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS),
            )  # fmt: skip
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in _kept(scope["headers"])]
        return self._session.request(
            scope["method"], URL(f"{leader}{path}{'?' if query else ''}{query}", encoded=True),
            headers=[*kept, (_MARK.decode(), "1")], data=body.pieces() if body.is_there else None,
            allow_redirects=False, skip_auto_headers=_OURS, expect100=body.is_there,
        )  # fmt: skip


class _Body:
    """A request's body, and then the wait for its client to leave."""

    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive = receive
        names = dict(headers)
        self.is_there = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        self._taken = asyncio.Event()
        if not self.is_there:
            self._taken.set()

    async def pieces(self) -> AsyncIterator[bytes]:
        while not self._taken.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client left")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                self._taken.set()

    async def left(self) -> None:
        await self._taken.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _Answer:
    """What the leader answers, on its way to the client."""

    def __init__(self, response: aiohttp.ClientResponse, body: _Body, send: Send) -> None:
        self._response = response
        self._body = body
        self._send = send
        self._whole_line = True

    async def pass_on(self) -> None:
        """Until it ends, or the client leaves. An answer of events that breaks off ends with one that says so."""
        headers = list(_kept(self._response.raw_headers))
        start = {"type": "http.response.start", "status": self._response.status, "headers": headers}
        await self._send(start)
        passing = asyncio.ensure_future(self._pass_on())
        leaving = asyncio.ensure_future(self._body.left())
        try:
            await asyncio.wait({passing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if passing.done() and (error := passing.exception()) is not None:
                await self._break_off(error)
        finally:
            passing.cancel()
            leaving.cancel()
            await asyncio.gather(passing, leaving, return_exceptions=True)

    async def _pass_on(self) -> None:
        async for piece in self._response.content.iter_any():
            self._whole_line = piece.endswith(b"\n")
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _break_off(self, error: BaseException) -> None:
        if not isinstance(error, (aiohttp.ClientError, TimeoutError, ConnectionError)):
            raise error
        if self._response.content_type != NDJSON or not self._whole_line:
            return  # the server closes a connection whose answer has no end
        ended = Interrupted("the server that did this has ended", hint="look how far it came, and try again")
        line = json.dumps({"event": "error", **error_body(ended)}).encode() + b"\n"
        await self._send({"type": "http.response.body", "body": line, "more_body": False})


def _kept(headers: Headers) -> Iterable[tuple[bytes, bytes]]:
    """Without those of the connection, which itself may name more of them."""
    found = [(name.lower(), value) for name, value in headers]
    named = {
        word.strip().lower() for name, value in found if name == b"connection" for word in value.split(b",")
    }
    return [pair for pair in found if pair[0] not in _LEFT_OUT and pair[0] not in named]


async def _refuse(error: SlipwayError, scope: Scope, receive: Receive, send: Send) -> None:
    response = respond(error)
    response.headers["Retry-After"] = "2"
    if any(name == _MARK for name, _ in scope["headers"]):
        response.headers[_NOT_LEADING] = "1"
    response.headers["Connection"] = "close"  # the rest of what the client sends is not waited for
    await response(scope, receive, send)


def _broken(leader: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"the leading server {leader} does not answer: {str(error) or type(error).__name__}",
        hint="look whether it was done before you try again",
    )
