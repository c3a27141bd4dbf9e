"""Wall-clock time, always in UTC with an explicit zone."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """RFC 3339 with microseconds and ``Z``, the form OCI and Docker documents use."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
