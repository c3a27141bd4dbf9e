"""The image configuration (OCI image-spec: config.md), with Docker's extra fields."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from slipway.errors import Invalid
from slipway.oci.digest import Digest
from slipway.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One step that made the image; ``empty_layer`` when it changed the configuration only."""

    created_by: str
    created: str = ""
    empty_layer: bool = False
    comment: str = ""

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.created:
            out["created"] = self.created
        out["created_by"] = self.created_by
        if self.comment:
            out["comment"] = self.comment
        if self.empty_layer:
            out["empty_layer"] = True
        return out


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's platform, layers, history and run-time ``config`` object.

    ``config`` keeps the JSON names (``Env``, ``Cmd``, ``Entrypoint``, ``User``, ``WorkingDir``, ``Labels``,
    ``ExposedPorts``, ``Volumes``, ``StopSignal``, ``Shell``, ``Healthcheck``, ``OnBuild``) so that fields we
    do not know survive. It is never changed in place: ``with_config`` returns a new value.
    """

    platform: Platform
    diff_ids: tuple[Digest, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[HistoryEntry, ...] = ()
    created: str = ""
    author: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises ``Invalid`` when the document is not an image configuration."""
        try:
            value = json.loads(data)
            diff_ids = tuple(Digest.parse(text) for text in value["rootfs"]["diff_ids"])
            history = tuple(
                HistoryEntry(
                    entry.get("created_by", ""),
                    entry.get("created", ""),
                    bool(entry.get("empty_layer", False)),
                    entry.get("comment", ""),
                )
                for entry in value.get("history") or []
            )
            config = value.get("config") or {}
            if not isinstance(config, dict):
                raise TypeError("config is not an object")
            return cls(
                Platform.from_json(value), diff_ids, config, history, value.get("created", ""),
                value.get("author", ""),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Invalid(f"not an image configuration: {error}") from error

    def to_bytes(self) -> bytes:
        out: dict[str, Any] = {}
        if self.created:
            out["created"] = self.created
        if self.author:
            out["author"] = self.author
        out.update(self.platform.to_json())
        out["config"] = dict(self.config)
        out["rootfs"] = {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]}
        out["history"] = [entry.to_json() for entry in self.history]
        return json.dumps(out, separators=(",", ":")).encode()

    def with_config(self, **fields: Any) -> Self:
        """A copy with these ``config`` keys set; a value of ``None`` removes the key."""
        config = copy.deepcopy(dict(self.config))
        for key, value in fields.items():
            if value is None:
                config.pop(key, None)
            else:
                config[key] = value
        return replace(self, config=config)

    @property
    def environment(self) -> dict[str, str]:
        pairs = (entry.partition("=") for entry in self.config.get("Env") or [])
        return {name: value for name, _, value in pairs}
