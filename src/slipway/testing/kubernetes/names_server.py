"""The cluster's DNS: names of Services by asking the API server, everything else by the host's own name servers.

Nothing is watched, so that an idle cluster stays idle; while the API server is away, what it said last still holds.
Answers A records of Services, of headless Services' Pods and of single Pods of those (RFC 1035 over UDP).
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import aiohttp

from slipway.testing.kubernetes.identity import connected
from slipway.testing.kubernetes.site import API, DOMAIN, HOST

PORT = 53
_SUFFIX = ["svc", *DOMAIN.split(".")]
_TTL_SECONDS = 5
_UPSTREAM_SECONDS = 4.0
_A, _IN = 1, 1
_NO_ERROR, _SERVER_FAILURE, _NO_SUCH_NAME = 0, 2, 3


@dataclass(frozen=True, slots=True)
class Question:
    """The one question of a query: its lower-case labels, its type, and its bytes."""

    labels: tuple[str, ...]
    kind: int
    raw: bytes

    @classmethod
    def parse(cls, packet: bytes) -> Question:
        """Raises ``ValueError`` for what is no query of one question."""
        if len(packet) < 17 or packet[2] & 0x80 or struct.unpack_from("!H", packet, 4)[0] != 1:
            raise ValueError("not a query")
        labels, at = [], 12
        while size := packet[at]:
            if size > 63 or at + size + 5 >= len(packet):
                raise ValueError("not a name")
            labels.append(packet[at + 1 : at + 1 + size].decode("ascii").lower())
            at += size + 1
        return cls(tuple(labels), struct.unpack_from("!H", packet, at + 1)[0], packet[12 : at + 5])


def answer(query: bytes, question: Question, code: int, addresses: list[str]) -> bytes:
    """The packet that says ``addresses`` to a query."""
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, _A, _IN, _TTL_SECONDS, 4) + socket.inet_aton(address)
        for address in addresses
    )
    # An authoritative response; recursion as was desired, and available.
    flags = 0x8480 | (query[2] & 1) << 8 | code
    return query[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0) + question.raw + records


class Services:
    """What the API server says of Services."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._last: dict[str, dict[str, Any] | None] = {}

    async def addresses(self, labels: tuple[str, ...]) -> list[str] | None:
        """Of ``[POD.]SERVICE.NAMESPACE``; ``None`` when there is no such name. Raises ``LookupError`` when the API
        server is away and never was asked."""
        *pod, service, namespace = labels
        found = await self._get(f"/api/v1/namespaces/{namespace}/services/{service}")
        if found is None:
            return None
        own = found["spec"].get("clusterIP", "None")
        if not pod and own != "None":
            return [own]
        ends = await self._get(f"/api/v1/namespaces/{namespace}/endpoints/{service}") or {}
        each = [one for subset in ends.get("subsets") or () for one in subset.get("addresses") or ()]
        chosen = [one["ip"] for one in each if not pod or [one.get("hostname")] == pod]
        return chosen if chosen or not pod else None

    async def _get(self, path: str) -> dict[str, Any] | None:
        try:
            async with self._session.get(API + path) as response:
                if response.status not in (200, 404):
                    raise aiohttp.ClientError(f"status {response.status}")
                self._last[path] = await response.json() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            if path not in self._last:
                raise LookupError(path) from error
        return self._last[path]


class Server(asyncio.DatagramProtocol):
    def __init__(self, services: Services, upstream: str) -> None:
        self._services, self._upstream = services, upstream
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # by duck typing alone

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        task = asyncio.create_task(self._serve(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, query: bytes, client: tuple[str | Any, int]) -> None:
        with suppress(ValueError, IndexError, struct.error, OSError, TimeoutError):
            said = await self._answer(query, Question.parse(query))
            if self._transport is not None:
                self._transport.sendto(said, client)

    async def _answer(self, query: bytes, question: Question) -> bytes:
        domain = DOMAIN.split(".")
        labels = list(question.labels)
        if labels[-2:] == ["in-addr", "arpa"] or (labels[-len(domain) :] == domain and not _service(labels)):
            return answer(query, question, _NO_SUCH_NAME, [])
        if not _service(labels):
            return await _forward(query, self._upstream)
        try:
            found = await self._services.addresses(tuple(labels[: -len(_SUFFIX)]))
        except LookupError:
            return answer(query, question, _SERVER_FAILURE, [])
        if found is None:
            return answer(query, question, _NO_SUCH_NAME, [])
        return answer(query, question, _NO_ERROR, found if question.kind == _A else [])


def _service(labels: list[str]) -> bool:
    return labels[-len(_SUFFIX) :] == _SUFFIX and len(labels) - len(_SUFFIX) in (2, 3)


async def _forward(query: bytes, upstream: str) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as client:
        client.connect((upstream, PORT))
        await loop.sock_sendall(client, query)
        return await asyncio.wait_for(loop.sock_recv(client, 65535), _UPSTREAM_SECONDS)


def _upstream() -> str:
    """The first name server of the host."""
    for line in Path("/etc/resolv.conf").read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "nameserver" and ":" not in words[1]:
            return words[1]
    return "127.0.0.1"


async def main() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with connected() as session:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Server(Services(session), _upstream()), local_addr=(HOST, PORT)
        )
        await ended.wait()
        transport.close()


if __name__ == "__main__":
    asyncio.run(main())
