"""Immutable records of what was delivered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slipway.compose import Project, Service
from slipway.state.tables import Release as Row


@dataclass(frozen=True, slots=True)
class Release:
    """``images``: service → ``{"reference", "digest"}``. ``digest`` is over model and images."""

    number: int
    model: Project
    images: Mapping[str, Mapping[str, str]]
    digest: str
    status: str
    created: datetime
    created_by: str
    source_revision: str = ""
    error: str | None = None

    def config_of(self, service: Service) -> str:
        """What an instance of the service is started from: equal digests need no new instance.

        How many run and how they take over does not change an instance.
        """
        model = self.model.to_json()["services"][service.name]
        for name in ("replicas", "order", "depends_on", "build", "expose", "x_slipway"):
            model.pop(name, None)
        texts = {
            f"{kind}/{item.source}": texts.get(item.source, "")
            for kind, texts, used in (
                ("configs", self.model.configs, service.configs),
                ("secrets", self.model.secrets, service.secrets),
            )
            for item in used
        }
        parts = [model, self.images[service.name]["digest"], *([texts] if texts else [])]
        return _digest(parts)[:16]


def release_digest(model: Project, images: Mapping[str, Mapping[str, str]]) -> str:
    """Equal for two deliveries of the same thing, whatever their tags are."""
    return _digest([model.to_json(), {name: image["digest"] for name, image in sorted(images.items())}])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def from_row(row: Row) -> Release:
    return Release(
        row.number,
        Project.from_json(row.model),
        row.images,
        row.digest,
        row.status,
        row.created,
        row.created_by,
        row.source_revision,
        row.error,
    )
