"""How an image was made: SLSA provenance, version 1, as an in-toto statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway.oci import Digest

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
BUILD_TYPE = "https://slipway.invalid/build/dockerfile/v1"
BUILDER = "https://slipway.invalid/builder"


@dataclass(frozen=True, slots=True)
class Material:
    """Something the build read that it did not bring along: an image, a file from an address, a commit."""

    uri: str
    digest: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"uri": self.uri, "digest": dict(self.digest)} if self.digest else {"uri": self.uri}


@dataclass(frozen=True, slots=True)
class Provenance:
    """One build. ``secrets`` are ids, never values; times are RFC 3339; ``builder`` is its kind and version."""

    build_id: str
    owner: str
    project: str
    source: str
    dockerfile: str
    target: str
    platform: str
    args: Mapping[str, str]
    secrets: Sequence[str]
    started: str
    finished: str
    materials: Sequence[Material] = ()
    builder: str = ""

    def predicate(self) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "source": self.source, "dockerfile": self.dockerfile, "platform": self.platform, "args": dict(self.args),
        }  # fmt: skip
        if self.target:
            parameters["target"] = self.target
        if self.secrets:
            parameters["secrets"] = sorted(self.secrets)
        materials = sorted(self.materials, key=lambda item: item.uri)
        return {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": {"project": self.project, "owner": self.owner},
                "resolvedDependencies": [item.to_json() for item in materials],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"slipway": self.builder}},
                "metadata": {
                    "invocationId": self.build_id,
                    "startedOn": self.started,
                    "finishedOn": self.finished,
                },
            },
        }


def statement(name: str, digest: Digest, predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto statement about one image."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {digest.algorithm: digest.hex}}],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
