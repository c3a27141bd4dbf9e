"""Webhooks: CloudEvents, signed, sent until somebody takes them.

An event is written in the transaction that does what it tells of, so that none is lost and none is made up. It is sent
as a structured CloudEvent (``application/cloudevents+json``) with ``Slipway-Signature: t=SECONDS,v1=HEX``, the
HMAC-SHA256 of ``SECONDS.BODY`` with the webhook's secret. Whoever answers 2xx has taken it; otherwise it is sent again
after 10 s, 20 s, 40 s … up to an hour apart, a day long. The same event may arrive twice: its ``id`` tells.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from slipway.access import Vault
from slipway.base.clock import now
from slipway.base.ids import new_id
from slipway.distribution.addresses import CheckedResolver, is_allowed
from slipway.errors import Conflict, Invalid, NotFound, SlipwayError
from slipway.registry import repositories
from slipway.registry.events import KINDS
from slipway.state import Database
from slipway.state.tables import Webhook, WebhookDelivery

log = logging.getLogger(__name__)
SIGNATURE = "Slipway-Signature"
_FIRST_PAUSE = timedelta(seconds=10)
_LONGEST_PAUSE = timedelta(hours=1)
_GIVE_UP = timedelta(days=1)
_KEEP = timedelta(days=7)
_LOOK_SECONDS = 1.0
_AT_ONCE = 8
_MOST = 20
_TIMEOUT = aiohttp.ClientTimeout(total=15)


@dataclass(frozen=True, slots=True)
class WebhookRecord:
    """``secret`` is known only when it was just made."""

    id: int
    url: str
    kinds: tuple[str, ...]
    created: datetime
    pending: int = 0
    failed: int = 0
    secret: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    id: int
    kind: str
    subject: str
    state: str
    attempts: int
    due: datetime
    answer: str


@dataclass(frozen=True, slots=True)
class _Due:
    id: int
    url: str
    secret: str
    event: dict[str, Any]
    attempts: int


def sign(secret: str, body: bytes, seconds: int) -> str:
    """The value of ``Slipway-Signature``."""
    mac = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256)
    return f"t={seconds},v1={mac.hexdigest()}"


class Webhooks:
    """``local``: addresses of this machine itself may be told, too (for tests, and for a receiver beside us)."""

    def __init__(self, database: Database, vault: Vault, *, local: bool = False) -> None:
        self._database = database
        self._vault = vault
        self._local = local

    async def add(self, project: str, url: str, kinds: Sequence[str]) -> WebhookRecord:
        """Raises ``Invalid`` and ``Conflict``. The secret is in the answer, and nowhere else afterwards."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or len(url) > 2000:
            raise Invalid(f"not a webhook's address: {url[:200]!r}", hint="e.g. https://ci.example.org/hook")
        for kind in kinds:
            if kind not in KINDS:
                raise Invalid(f"not a kind of event: {kind[:60]!r}", hint=f"one of {', '.join(KINDS)}")
        secret = new_id(40)
        async with self._database.session() as session:
            owner = await repositories.project(session, project)
            query = select(func.count()).where(Webhook.project_id == owner.id)
            if (await session.scalar(query) or 0) >= _MOST:
                raise Conflict(f"the project {project!r} has {_MOST} webhooks already")
            row = Webhook(
                project_id=owner.id, url=url, secret=self._vault.seal(secret), kinds=list(kinds or KINDS), created=now()
            )  # fmt: skip
            session.add(row)
            await session.flush()
            return WebhookRecord(row.id, row.url, tuple(row.kinds), row.created, secret=secret)

    async def all(self, project: str) -> list[WebhookRecord]:
        async with self._database.read() as session:
            owner = await repositories.project(session, project)
            counts = select(WebhookDelivery.webhook_id, WebhookDelivery.state, func.count()).group_by(
                WebhookDelivery.webhook_id, WebhookDelivery.state
            )
            found = {(hook, state): count for hook, state, count in (await session.execute(counts)).all()}
            rows = await session.scalars(
                select(Webhook).where(Webhook.project_id == owner.id).order_by(Webhook.id)
            )
            return [
                WebhookRecord(
                    row.id, row.url, tuple(row.kinds), row.created, found.get((row.id, "pending"), 0),
                    found.get((row.id, "failed"), 0),
                )
                for row in rows
            ]  # fmt: skip

    async def remove(self, project: str, number: int) -> None:
        async with self._database.session() as session:
            await session.delete(await _hook(session, project, number))

    async def deliveries(self, project: str, number: int, count: int = 100) -> list[DeliveryRecord]:
        """Newest first."""
        async with self._database.read() as session:
            hook = await _hook(session, project, number)
            query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == hook.id)
            rows = await session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(count))
            return [
                DeliveryRecord(
                    row.id, str(row.event.get("type", "")).removeprefix("io.slipway."),
                    str(row.event.get("subject", "")), row.state, row.attempts, row.due, row.answer,
                )
                for row in rows
            ]  # fmt: skip

    # Sending

    async def run_forever(self) -> None:
        connector = None if self._local else aiohttp.TCPConnector(resolver=CheckedResolver())
        async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector) as client:
            while True:
                try:
                    sent = await self.send_due(client)
                except SlipwayError as error:
                    log.warning("webhooks: %s", error.message)
                    sent = 0
                if not sent:
                    await asyncio.sleep(_LOOK_SECONDS)

    async def send_due(self, client: aiohttp.ClientSession) -> int:
        """Send what is due now, each webhook's events in their order; how many were tried."""
        query = (
            select(WebhookDelivery, Webhook)
            .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
            .where(WebhookDelivery.state == "pending", WebhookDelivery.due <= now())
            .order_by(WebhookDelivery.id)
            .limit(_AT_ONCE)
        )
        async with self._database.read() as session:
            due = [
                _Due(row.id, hook.url, self._vault.open(hook.secret), row.event, row.attempts)
                for row, hook in (await session.execute(query)).all()
            ]
        answers = await asyncio.gather(*(self._send(client, item) for item in due))
        if due:
            await self._note(list(zip(due, answers, strict=True)))
        return len(due)

    async def _send(self, client: aiohttp.ClientSession, due: _Due) -> tuple[bool, str]:
        body = json.dumps(due.event).encode()
        headers = {
            "Content-Type": "application/cloudevents+json",
            "User-Agent": "slipway",
            SIGNATURE: sign(due.secret, body, int(time.time())),
        }
        try:
            if not self._local and _is_literal_local(due.url):
                return False, "an address of the server's own machine"
            async with client.post(due.url, data=body, headers=headers, allow_redirects=False) as response:
                return 200 <= response.status < 300, str(response.status)
        except (aiohttp.ClientError, TimeoutError, SlipwayError, ValueError) as error:
            return False, (str(error) or type(error).__name__)[:300]

    async def _note(self, tried: Sequence[tuple[_Due, tuple[bool, str]]]) -> None:
        async with self._database.session() as session:
            for due, (taken, answer) in tried:
                row = await session.get(WebhookDelivery, due.id)
                if row is None:
                    continue  # the webhook is gone
                row.attempts, row.answer = due.attempts + 1, answer
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(due.attempts, 20))
                begun = datetime.fromisoformat(str(due.event["time"]))
                over = now() + pause > begun + _GIVE_UP
                row.state = "done" if taken else ("failed" if over else "pending")
                row.due = now() if taken or over else now() + pause
            old = WebhookDelivery.state != "pending", WebhookDelivery.due < now() - _KEEP
            await session.execute(delete(WebhookDelivery).where(*old))


def _is_literal_local(url: str) -> bool:
    """aiohttp resolves no address that is written as one: it has to be looked at here."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not is_allowed(host)


async def _hook(session: AsyncSession, project: str, number: int) -> Webhook:
    """A webhook of this project and of no other. Raises ``NotFound``."""
    owner = await repositories.project(session, project)
    row = await session.get(Webhook, number)
    if row is None or row.project_id != owner.id:
        raise NotFound(f"there is no webhook {number} in {project!r}")
    return row
