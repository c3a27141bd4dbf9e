"""Where workers come in: tickets that are good for one, and the seats of those that are here."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, BinaryIO

from slipway.build.pods.answers import Answers
from slipway.build.pods.beforehand import Beforehand, Layers, Told
from slipway.build.pods.forms import Job, Json, error_from_json, job_to_json, layer_to_json, solved_from_json
from slipway.build.pods.joining import Joining
from slipway.build.request import Solved
from slipway.content import ContentStore
from slipway.errors import Conflict, Invalid, NotFound, Unauthenticated, Unavailable
from slipway.oci import Digest

SILENT_SECONDS = 12.0
"""After which a worker that says nothing is lost; it says something every few seconds."""
PING_SECONDS = 4.0


class WorkerLost(Unavailable):
    """The worker or its machine is gone. Its build can be carried out by another."""


class WorkerRefused(WorkerLost):
    """The worker could not make a user namespace where it was."""


class WorkerUnpullable(WorkerLost):
    """The worker's image could not be pulled where it was."""


class Ticket:
    """Admits one worker, once. ``seat`` is done when it has come in."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.seat: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()


class Seat:
    """One worker that is here. It gets at most one job."""

    def __init__(self) -> None:
        self.session = secrets.token_urlsafe(32)
        self.heard = time.monotonic()
        self._messages: asyncio.Queue[Json | None] = asyncio.Queue()
        self._answers: Answers | None = None
        self._told = Told()
        self._result: asyncio.Future[Solved] = asyncio.get_running_loop().create_future()
        self._messages.put_nowait({"session": self.session})

    @property
    def answers(self) -> Answers:
        """Raises ``Conflict`` for a worker that has no build."""
        if self._answers is None:
            raise Conflict("this worker has no build")
        return self._answers

    @property
    def is_lost(self) -> bool:
        return self._result.done()

    def prepare(self, layers: Layers, blobs: ContentStore) -> None:
        """Have a base image unpacked there, for a build that is to come."""
        if self._answers is None and not self.is_lost and self._told.add(layers, blobs):
            self._messages.put_nowait({"unpack": [layer_to_json(layer) for layer in layers]})

    async def open(self, digest: Digest) -> tuple[BinaryIO, int]:
        """A blob that the worker was told of, and its size. Raises ``NotFound`` for any other."""
        blobs = self._told.store_of(digest)
        if blobs is None:
            return await self.answers.open(digest)
        size = await asyncio.to_thread(blobs.size, digest)
        if size is None:
            raise NotFound(f"the blob {digest} is not here any more")
        return await asyncio.to_thread(blobs.open, digest), size

    async def run(self, job: Job, answers: Answers) -> Solved:
        """Have the job done. Raises what went wrong there, or ``WorkerLost``. Cancelling it ends the job there."""
        self._answers = answers
        answers.tell = self._messages.put_nowait
        self._messages.put_nowait({"job": job_to_json(job)})
        try:
            while not self._result.done():
                await asyncio.wait({self._result}, timeout=PING_SECONDS)
                silent = time.monotonic() - self.heard
                if silent > SILENT_SECONDS:
                    self.lost(f"nothing was heard of it for {silent:.0f} s")
            return self._result.result()
        except asyncio.CancelledError:
            self._messages.put_nowait({"cancel": True})
            raise
        finally:
            self._answers = None

    async def messages(self) -> AsyncIterator[Json]:
        """What the worker is told, for as long as it listens."""
        try:
            while True:
                try:
                    async with asyncio.timeout(PING_SECONDS):
                        message = await self._messages.get()
                except TimeoutError:
                    message = {"ping": True}
                if message is None:
                    return
                yield message
        finally:
            self.lost("it hung up")

    def event(self, value: Json) -> None:
        self.heard = time.monotonic()
        if self._answers is not None and value:
            self._answers.event(value)

    def done(self, value: Json) -> None:
        """The worker's last word. Raises ``Invalid`` for one that is none."""
        self.heard = time.monotonic()
        if self._result.done():
            return
        if "error" in value:
            self._result.set_exception(error_from_json(value["error"]))
            return
        solved = solved_from_json(value["solved"])
        layers = [*solved.layers, *(made.layer for made in solved.records.values() if made.layer)]
        if any(not self.answers.knows(layer.blob.digest) for layer in layers):
            raise Invalid("the worker's result has a layer that it neither was told of nor sent")
        self._result.set_result(solved)

    def lost(self, why: str) -> None:
        if not self._result.done():
            self._result.set_exception(WorkerLost(f"the worker is lost: {why}"))
            self._result.exception()  # it may be that nobody waits

    def end(self) -> None:
        """Let it go: it gets no more messages, and ends."""
        self._messages.put_nowait(None)


class Desk:
    """The workers of a server. Tokens and sessions are known by their hashes, so that no comparison tells any."""

    def __init__(self) -> None:
        self._tickets: dict[bytes, Ticket] = {}
        self._seats: dict[bytes, Seat] = {}
        self.joining = Joining()
        self.beforehand = Beforehand()

    def ticket(self) -> Ticket:
        """A new one; ``withdraw`` ends it and whoever came with it."""
        found = Ticket(secrets.token_urlsafe(32))
        self._tickets[_hash(found.token)] = found
        return found

    def withdraw(self, ticket: Ticket) -> None:
        self._tickets.pop(_hash(ticket.token), None)
        if not ticket.seat.done():
            ticket.seat.cancel()
            return
        with suppress(asyncio.CancelledError):
            seat = ticket.seat.result()
            self._seats.pop(_hash(seat.session), None)
            seat.lost("it was let go")
            seat.end()

    def join(self, token: str) -> Seat:
        """A worker comes in. Raises ``Unauthenticated``, also for a token that was used before."""
        ticket = self._tickets.pop(_hash(token), None)
        if ticket is None or ticket.seat.done():
            raise Unauthenticated("this worker is not expected", hint="its token is good for one time")
        seat = Seat()
        self._seats[_hash(seat.session)] = seat
        ticket.seat.set_result(seat)
        return seat

    def seat(self, session: str) -> Seat:
        """Raises ``Unauthenticated``."""
        found = self._seats.get(_hash(session))
        if found is None:
            raise Unauthenticated("no worker has this session")
        found.heard = time.monotonic()
        return found


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def as_object(value: Any) -> Json:
    """Raises ``Invalid`` for JSON that is no object."""
    if not isinstance(value, dict):
        raise Invalid("a worker says objects")
    return value
