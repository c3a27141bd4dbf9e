"""The requests of the hottest commands as plain mappings, the same as the models of their names: see there."""

from __future__ import annotations

from typing import TypedDict


class Source(TypedDict, total=False):
    path: str
    upload: str
    git: str
    revision: str


class Deliver(TypedDict):
    source: Source
    files: list[str]
    app: str
    variables: dict[str, str]
    profiles: list[str]
    no_cache: bool


class Render(TypedDict):
    source: Source
    files: list[str]
    app: str
    variables: dict[str, str]
    profiles: list[str]
    images: dict[str, str]


class NamedContext(TypedDict, total=False):
    source: Source
    image: str
    layout: str


class CacheTarget(TypedDict):
    reference: str
    steps: bool
    mounts: bool


class BuildRequest(TypedDict):
    source: Source
    name: str
    tags: list[str]
    dockerfile: str
    inline: str | None
    contexts: dict[str, NamedContext]
    target: str | None
    args: dict[str, str]
    labels: dict[str, str]
    no_cache: bool
    no_cache_filter: list[str]
    pull: bool
    priority: str
    builder: str
    platforms: list[str]
    cache_from: list[str]
    cache_to: list[CacheTarget]
    logins: dict[str, dict[str, str]]
    ssh: list[str]
    check: bool
    secrets: dict[str, str]
