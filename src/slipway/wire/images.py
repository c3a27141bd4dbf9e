"""Images in the registry, and base images made from a distribution's packages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from slipway.wire.base import Answer, Request


class BaseImage(Request):
    name: str = Field(description="distribution and release, e.g. debian:bookworm")
    mirror: str = ""
    include: list[str] = Field(default_factory=list)
    variant: str = "minbase"
    force: bool = False


class Push(Request):
    """An image of this registry to another one."""

    reference: str
    target: str = Field(description="HOST/NAME[:TAG]")
    username: str = ""
    password: str = Field(default="", repr=False)


class Image(Answer):
    repository: str
    tag: str
    digest: str
    size: int
    updated: datetime


class RepositoryFound(Answer):
    """``repository`` is empty where the project itself is what was found."""

    project: str
    repository: str
    description: str
    tags: int
    updated: datetime | None


class ImageDetail(Answer):
    reference: str
    digest: str
    media_type: str
    size: int
    platform: str
    created: str
    tags: list[str]
    config: dict[str, Any]
    layers: list[dict[str, Any]]
    history: list[dict[str, Any]]
    signed: bool = Field(default=False, description="by the project's key")
    provenance: dict[str, Any] | None = Field(default=None, description="SLSA provenance v1, if signed so")
    packages: list[str] | None = Field(default=None, description="package URLs of the SBOM, if signed so")
    referrers: list[str] = Field(default_factory=list, description="kinds of what else refers to the image")
