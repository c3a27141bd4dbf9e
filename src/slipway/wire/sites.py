"""Other sites, and webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from slipway.wire.base import MOST_BYTES, MOST_SECONDS, Answer, Request

Direction = Literal["push", "pull"]


class SiteOptions(Request):
    """What is replicated with a site, and how. Empty lists mean everything."""

    projects: list[str] = Field(default_factory=list)
    repositories: list[str] = Field(default_factory=list, description="with wildcards")
    tags: list[str] = Field(default_factory=list, description="with wildcards")
    labels: list[str] = Field(default_factory=list, description="KEY=VALUE or KEY, all of them")
    deletions: bool = False
    every: float = Field(
        default=0,
        ge=0,
        le=MOST_SECONDS,
        description="seconds between two runs; 0: as soon as something changed",
    )
    bandwidth: int = Field(default=0, ge=0, le=MOST_BYTES, description="bytes a second; 0: no limit")
    at_once: int = Field(default=4, ge=1, le=32, description="images that may be under way at the same time")
    authority: str = Field(
        default="", max_length=1_000_000, description="certificates (PEM) to trust beside the system's"
    )
    prefix: str = Field(default="", description="in front of repository names over there")
    into: str = Field(
        default="", description="the project that takes what is pulled; empty: the same as there"
    )


class NewSite(Request):
    name: str
    url: str
    direction: Direction = "push"
    username: str = ""
    password: str = Field(default="", repr=False)
    options: SiteOptions = Field(default_factory=SiteOptions)


class Site(Answer):
    """``pending`` changes are not replicated yet; ``lag`` is for how many seconds the oldest of them waits."""

    name: str
    url: str
    kind: str
    direction: Direction
    username: str
    options: SiteOptions
    state: str
    pending: int
    lag: float
    last_success: datetime | None
    error: str
    images: int
    bytes: int
    created: datetime


class SiteConflict(Answer):
    """A tag that two sites moved, each not knowing of the other."""

    moment: datetime
    repository: str
    tag: str
    kept: str
    kept_origin: str
    lost: str
    lost_origin: str


class NewWebhook(Request):
    url: str
    kinds: list[str] = Field(default_factory=list, description="empty: all kinds")


class Webhook(Answer):
    """``secret`` is shown when the webhook is made, and never again."""

    id: int
    url: str
    kinds: list[str]
    created: datetime
    pending: int = 0
    failed: int = 0
    secret: str = ""


class WebhookDelivery(Answer):
    id: int
    kind: str
    subject: str
    state: str
    attempts: int
    due: datetime
    answer: str
