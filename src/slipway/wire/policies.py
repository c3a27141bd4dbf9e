"""Policies of a project's images, its trash, and the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.wire.base import MOST_BYTES, MOST_COUNT, MOST_DAYS, MOST_SECONDS, Answer, Request


class KeepRule(Request):
    """Of the tags that match: what stays."""

    match: str = Field(description="TAG or REPOSITORY:TAG with wildcards")
    last: int = Field(default=0, ge=0, le=MOST_COUNT, description="the last so many pushed of a repository")
    pushed_days: float = Field(default=0, ge=0, le=MOST_DAYS)
    pulled_days: float = Field(default=0, ge=0, le=MOST_DAYS)


class RegistryPolicy(Request):
    """See ``slipway.registry.policy``. ``used`` is what the project's images take up; it cannot be set."""

    quota: int | None = Field(default=None, ge=0, le=MOST_BYTES, description="bytes; null: no limit")
    immutable: list[str] = Field(default_factory=list)
    retention: list[KeepRule] = Field(default_factory=list)
    untagged_days: float = Field(default=0, ge=0, le=MOST_DAYS)
    trash_hours: float = Field(default=24, ge=0, le=MOST_DAYS * 24)
    require_signature: bool = False
    block_severity: Literal["", "low", "medium", "high", "critical"] = ""
    used: int = 0


class NewUpstream(Request):
    """The registry that a project stands for; an empty ``url`` is none."""

    url: str
    username: str = ""
    password: str = Field(default="", repr=False)
    prefix: str = ""
    fresh: float = Field(
        default=300, ge=0, le=MOST_SECONDS, description="seconds after which a tag is asked for again"
    )


class Upstream(Answer):
    url: str
    username: str = ""
    prefix: str = ""
    fresh: float = 300


class Verdict(Answer):
    """What retention does with a tag."""

    repository: str
    tag: str
    digest: str
    pushed: datetime
    pulled: datetime | None
    keep: bool
    reason: str

    @classmethod
    def of(cls, verdict: Any) -> Verdict:
        facts = verdict.facts
        return cls(
            repository=facts.repository, tag=facts.tag, digest=facts.digest, pushed=facts.pushed,
            pulled=facts.pulled, keep=verdict.keep, reason=verdict.reason,
        )  # fmt: skip


class Thrown(Answer):
    """Something in the trash; ``tag`` is empty for an image that had none."""

    repository: str
    tag: str
    digest: str
    deleted: datetime
    deleted_by: str
    until: datetime


class AuditFilter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    project: str = ""
    actor: str = ""
    action: str = Field(default="", description="may end in *")
    denied: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: int = Field(default=0, ge=0, le=MOST_BYTES, description="an event's id")
    limit: int = Field(default=100, ge=1, le=1000)


class AuditEvent(Answer):
    id: int
    moment: datetime
    actor: str
    action: str
    target: str
    project: str
    allowed: bool
    detail: dict[str, Any]
