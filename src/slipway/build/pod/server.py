"""The worker's side of the channel to its server."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from slipway.build.pods.forms import Json, error_from_json
from slipway.errors import Failed, SlipwayError, Unavailable
from slipway.oci import Digest

log = logging.getLogger(__name__)
T = TypeVar("T")
API = "/api/v1/workers"
_PIECE = 1 << 20
_DIAL_SECONDS = 60.0
_PAUSE = 0.1
_BEAT_SECONDS = 3.0
_MAX_LINE = 256 << 20
_CONNECTIONS = 200  # some of them wait for steps of other builds, which must not hold up anything else
_REST_SECONDS = 3.0  # shorter than a server keeps a connection that rests: one that it ends would be lost
_MAX_HELD = 500
_TAKERS = 4


@dataclass(frozen=True, slots=True)
class Keys:
    """What a worker is given to begin with, read by the container's root, since nobody else can.

    ``authority`` is PEM text, if the server's certificate is of an authority of its own.
    """

    server: str
    token: str
    authority: str = ""

    @classmethod
    def read(cls, directory: Path) -> Keys:
        authority = directory / "ca.pem"
        return cls(
            (directory / "server").read_text().strip().rstrip("/"),
            (directory / "token").read_text().strip(),
            authority.read_text() if authority.exists() else "",
        )


class Server:
    """Requests to the server, in the worker's one session."""

    def __init__(self, keys: Keys) -> None:
        self._base = f"{keys.server}{API}"
        self._token = keys.token
        self._loop = asyncio.get_running_loop()
        self._takers = ThreadPoolExecutor(_TAKERS, "taker")
        tls = ssl.create_default_context(cadata=keys.authority) if keys.authority else True
        connector = aiohttp.TCPConnector(ssl=tls, limit=_CONNECTIONS, keepalive_timeout=_REST_SECONDS)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(None, sock_connect=5), read_bufsize=1 << 20
        )
        self.wanted: Callable[[str], None] = lambda _: None
        self._said: list[Json] = []
        self._word = asyncio.Event()

    async def close(self) -> None:
        await self._http.close()
        self._takers.shutdown(wait=False)

    async def work(self) -> AsyncIterator[Json]:
        """Come in, with patience for a network that is still being made, and listen. Ends when the server hangs up."""
        answer = await self._dial()
        try:
            line = bytearray()
            async for piece in answer.content.iter_any():
                line += piece
                if len(line) > _MAX_LINE:
                    raise Failed("the server's message is too long")
                *whole, rest = bytes(line).split(b"\n")
                line = bytearray(rest)
                for item in whole:
                    message = json.loads(item)
                    if "session" in message:
                        self._token = message["session"]
                    yield message
        except aiohttp.ClientError:
            return
        finally:
            answer.close()

    async def _dial(self) -> aiohttp.ClientResponse:
        end = time.monotonic() + _DIAL_SECONDS
        while True:
            try:
                answer = await self._http.get(f"{self._base}/work", headers=self._headers)
                await _checked(answer)
                return answer
            except (aiohttp.ClientConnectionError, Unavailable) as error:
                if time.monotonic() > end:
                    raise Unavailable(f"the server {self._base} does not answer: {error}") from error
                await asyncio.sleep(_PAUSE)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    @asynccontextmanager
    async def _asked(self, method: str, path: str, data: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises what the server raises, and ``Unavailable`` when it cannot be reached."""
        try:
            async with await self._answer(method, path, data) as answer:
                await _checked(answer)
                yield answer
        except aiohttp.ClientError as error:
            raise Unavailable(f"the server was lost: {error}") from error

    async def _answer(self, method: str, path: str, data: Any) -> aiohttp.ClientResponse:
        """Where no connection came about nothing was said, so it is said again; but a stream can be read once only."""
        end = time.monotonic() + _DIAL_SECONDS
        while True:
            try:
                return await self._http.request(
                    method, f"{self._base}{path}", data=data, headers=self._headers
                )
            except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError):
                if not isinstance(data, bytes | None) or time.monotonic() > end:
                    raise
                await asyncio.sleep(_PAUSE)

    async def ask(self, what: str, **value: Any) -> Json:
        async with self._asked("POST", f"/ask/{what}", json.dumps(value).encode()) as answer:
            found: Json = json.loads(await answer.read())
            return found

    async def tree(self, number: int) -> list[bytes]:
        """The lines of a tree's list."""
        async with self._asked("GET", f"/trees/{number}") as answer:
            return (await answer.read()).splitlines()

    @asynccontextmanager
    async def files(self, number: int, indexes: list[int]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The contents of a tree's files, one after the other."""
        async with self._asked("POST", f"/trees/{number}/files", json.dumps(indexes).encode()) as answer:
            yield answer.content.iter_chunked(_PIECE)

    async def download(self, digest: Digest, write: Callable[[bytes], object]) -> None:
        """A blob's bytes, each once and in order, each call in a thread; nobody has verified them."""
        async with self._asked("GET", f"/blobs/{digest}") as answer:
            async for piece in answer.content.iter_chunked(_PIECE):
                await self.taken(write, piece)

    async def upload(self, digest: Digest, path: Path) -> None:
        with await asyncio.to_thread(path.open, "rb") as handle:
            async with self._asked("PUT", f"/blobs/{digest}", handle):
                return

    # What the worker says

    def say(self, event: Json) -> None:
        """Have the server told, soon and in order."""
        self._said.append(event)
        self._word.set()

    async def speak(self) -> None:
        """Tell the server what was said, and that the worker is alive. Ends by being cancelled."""
        while True:
            try:
                async with asyncio.timeout(_BEAT_SECONDS):
                    await self._word.wait()
            except TimeoutError:
                self._said.append({})
            await self.flush()

    async def flush(self) -> None:
        """Tell the server all that was said."""
        self._word.clear()
        while self._said:
            batch, self._said = self._said[:_MAX_HELD], self._said[_MAX_HELD:]
            async with self._asked("POST", "/events", json.dumps(batch).encode()):
                pass

    async def done(self, value: Json) -> None:
        async with self._asked("POST", "/done", json.dumps(value).encode()):
            return

    async def taken(self, work: Callable[..., T], *given: object) -> T:
        """What to do with something that came, in a thread. Those of others may all be waiting for just that."""
        return await self._loop.run_in_executor(self._takers, work, *given)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of one of these, for a thread that is not the loop's."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _checked(answer: aiohttp.ClientResponse) -> None:
    """Raises the error that the server answered with."""
    if answer.status < 400:
        return
    data = await answer.read()
    error: SlipwayError = Failed(f"the server answered {answer.status}")
    try:
        error = error_from_json(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        if answer.status >= 500:
            error = Unavailable(f"the server answered {answer.status}")
    raise error
