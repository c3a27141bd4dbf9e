"""A container's output, live, over breaks of the connection: no line twice, none left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp

from slipway.errors import NotFound, Unavailable
from slipway.kubernetes.lines import lines
from slipway.kubernetes.transport import Transport

LONGEST_LINE = 1024 * 1024
_PATIENCE = 180.0  # seconds
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10)


@dataclass(frozen=True, slots=True)
class LogRequest:
    """``since``: an RFC 3339 moment; ``tail``: so many last lines; ``previous``: of the container before the last."""

    namespace: str
    pod: str
    container: str | None = None
    follow: bool = False
    tail: int | None = None
    since: str | None = None
    previous: bool = False
    timestamps: bool = True


class PodLog:
    """Lines are asked for with their moments, which say where to go on after a break."""

    def __init__(self, transport: Transport, request: LogRequest) -> None:
        self._transport, self._request = transport, request
        self._pod = f"/api/v1/namespaces/{request.namespace}/pods/{request.pod}"
        self._last = b""  # the moment of the line that was given last
        self._same = 0  # how many lines of that moment were given
        self._began = False

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Ends when the container has ended (``follow``), else when all was read.

        Raises ``NotFound`` without such a Pod, ``Unavailable`` when its container has not started yet or its node
        does not answer for long, ``Invalid`` for a container the Pod does not have.
        """
        breaks = 0
        until = 0.0
        follow = self._request.follow
        while True:
            came = False
            try:
                async with aclosing(self._stream(follow)) as stream:
                    async for line in stream:
                        came = True
                        yield line
                if not follow:
                    return
                # A stream also ends when the API server or the kubelet restarts, or the log is rotated. What the
                # container wrote between that and its end is read by one more request.
                follow = await self._running()
            except NotFound:
                if not self._began:
                    raise
                return  # the Pod was removed while its log was read
            except Unavailable:
                if not self._began:
                    raise
                until = time.monotonic() + _PATIENCE if came or not breaks else until
                if time.monotonic() > until:
                    raise
                breaks = 1 if came else breaks + 1
            else:
                breaks = 0 if came else breaks + 1
            await asyncio.sleep(min(5.0, 0.1 * 2 ** min(breaks, 8)) if breaks else 0)

    async def _stream(self, follow: bool) -> AsyncGenerator[bytes, None]:
        request = self._request
        params = {"timestamps": "true", **({"follow": "true"} if follow else {})}
        params |= {"container": request.container} if request.container else {}
        params |= {"previous": "true"} if request.previous else {}
        since = _seconds(self._last) if self._last else request.since
        params |= {"sinceTime": since} if since else {}
        if request.tail is not None and not self._last:
            params["tailLines"] = str(request.tail)
        what = f"read the log of {request.namespace}/{request.pod}"
        skip_until, skip_same = self._last, self._same
        async with self._transport.open(
            "GET", f"{self._pod}/log", what, params=params, headers={"Accept": "*/*"}, timeout=_TIMEOUT
        ) as response:
            self._began, skipped = True, False
            async for line in lines(response.content, LONGEST_LINE, cut=True):
                moment, space, text = line.partition(b" ")
                if not space or not _is_moment(moment):
                    if not skipped:
                        yield line  # a piece of a cut line, or the kubelet's own word
                    continue
                same = skip_until and _order(moment) == _order(skip_until) and skip_same > 0
                skipped = bool(same or (skip_until and _order(moment) < _order(skip_until)))
                if skipped:
                    skip_same -= bool(same)
                    continue
                self._same = self._same + 1 if moment == self._last else 1
                self._last = moment
                yield line if request.timestamps else text

    async def _running(self) -> bool:
        """Whether more may come. Keeps asking where the cluster does not answer."""
        try:
            pod = await self._transport.json(
                "GET", self._pod, f"see {self._request.namespace}/{self._request.pod}"
            )
        except NotFound:
            return False
        return still_running(pod, self._request.container)


def still_running(pod: dict[str, Any], container: str | None) -> bool:
    """Whether ``container`` (the first, without a name) of ``pod`` is running."""
    status = pod.get("status") or {}
    first: dict[str, Any] = next(iter((pod.get("spec") or {}).get("containers") or ()), {})
    name = container or first.get("name")
    found = [
        item
        for key in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        for item in status.get(key) or ()
        if item.get("name") == name
    ]
    return any("running" in (item.get("state") or {}) for item in found)


def _is_moment(text: bytes) -> bool:
    return 20 <= len(text) <= 40 and text[4:5] == b"-" and text[10:11] == b"T"


def _order(moment: bytes) -> bytes:
    """The kubelet writes nanoseconds with trailing zeros left out, which do not sort as they are."""
    whole, _, rest = moment.removesuffix(b"Z").partition(b".")
    return whole + b"." + rest.ljust(9, b"0")


def _seconds(moment: bytes) -> str:
    """``sinceTime`` knows whole seconds."""
    text = moment.decode()
    return text[:19] + "Z" if text.endswith("Z") else text[:19] + text[-6:]
