"""What is known to be wrong with the packages of images."""

from __future__ import annotations

from datetime import datetime

from slipway.wire.base import Answer


class Finding(Answer):
    """``fixed`` is the first version without it; null if none is known."""

    id: str
    severity: str
    score: float | None
    package: str
    version: str
    fixed: str | None
    summary: str
    aliases: list[str]


class Findings(Answer):
    """``checked`` packages were looked up; ``unchecked`` counts the others by the reason why not."""

    reference: str
    digest: str
    findings: list[Finding]
    checked: int
    unchecked: dict[str, int]


class AdvisorySource(Answer):
    name: str
    loaded: datetime
    advisories: int


class AdvisoriesLoaded(Answer):
    """How many records there were, and which were of no use here."""

    source: str
    read: int
    withdrawn: int
    skipped: int
    unused: int
    reasons: list[str]
