"""One thing that is known to be wrong with one package."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.registry.findings.advisories import Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """``fixed`` is the first version (of ``source``, the package the advisory names) without it, ``None`` if none is
    known; ``others`` are further records that tell of the same."""

    id: str
    aliases: tuple[str, ...]
    upstream: tuple[str, ...]
    summary: str
    package: str
    purl: str
    version: str
    source: str
    fixed: str | None
    severity: Severity
    others: tuple[str, ...] = ()
