"""The SSH agents of those who build, asked over the connection that their build's events take.

What a step asks its agent goes to the caller as an event, ``{"event": "ssh.ask", "session", "number", "agent",
"message"}``; the answer comes as a request of the caller's. So nothing has to listen on the caller's side, nor to be
reachable from here. Invariants: only agents that the caller named, only what a step may ask (``ssh_agent``), a few at a
time, and only while the build runs; the events are the caller's alone and in no log.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from slipway.base.progress import Progress
from slipway.build.ssh_agent import MAX_MESSAGE, Agent, is_permitted
from slipway.errors import Invalid, NotFound, Unavailable

ASK = "ssh.ask"
_AT_ONCE = 8
_SECONDS = 120.0  # somebody may have to press a button


class _Session:
    """One caller's build."""

    def __init__(self, owner: str, tell: Progress) -> None:
        self.name = secrets.token_urlsafe(32)
        self.owner = owner
        self._tell = tell
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._number = 0
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self.is_over = False

    async def ask(self, agent: str, message: bytes) -> bytes:
        if not is_permitted(message):
            raise Invalid("a step may list keys and have something signed, nothing else")
        async with self._turn:
            if self.is_over:
                raise Unavailable("the build of this SSH agent is over")
            self._number += 1
            number = self._number
            answer = self._asked[number] = asyncio.get_running_loop().create_future()
            text = base64.b64encode(message).decode()
            self._tell(
                {"event": ASK, "session": self.name, "number": number, "agent": agent, "message": text}
            )
            try:
                async with asyncio.timeout(_SECONDS):
                    said: bytes = await answer
                    return said
            except TimeoutError as error:
                raise Unavailable(f"the SSH agent {agent!r} does not answer") from error
            finally:
                del self._asked[number]

    def answer(self, number: int, message: bytes) -> None:
        """Raises ``NotFound`` when nobody waits for it."""
        asked = self._asked.get(number)
        if asked is None or asked.done():
            raise NotFound("nobody waits for this answer")
        asked.set_result(message)

    def close(self) -> None:
        self.is_over = True
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(Unavailable("the build of this SSH agent is over"))


@dataclass(frozen=True, slots=True)
class _CallersAgent:
    session: _Session
    name: str

    async def ask(self, message: bytes) -> bytes:
        return await self.session.ask(self.name, message)


class Forwarding:
    """The callers whose agents can be asked now."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    @contextmanager
    def agents(self, owner: str, names: Sequence[str], tell: Progress) -> Iterator[dict[str, Agent]]:
        """The agents that ``owner`` named, by name, for the length of the block. ``tell`` reaches the caller."""
        session = _Session(owner, tell)
        self._sessions[session.name] = session
        try:
            yield {name: _CallersAgent(session, name) for name in names}
        finally:
            del self._sessions[session.name]
            session.close()

    def answer(self, owner: str, session: str, number: int, message: bytes) -> None:
        """What an agent of ``owner``'s said. Raises ``NotFound``, ``Invalid`` for one that is too long."""
        found = self._sessions.get(session)
        if found is None or found.owner != owner:
            raise NotFound("no build waits for this answer")
        if not 0 < len(message) <= MAX_MESSAGE:
            raise Invalid(f"an agent's answer has at most {MAX_MESSAGE} bytes")
        found.answer(number, message)
