"""Build jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from slipway.wire.apps import Source
from slipway.wire.base import MOST_BYTES, MOST_DAYS, Answer, Request


class NamedContext(Request):
    """A further context: an image if that is given, else a source.

    With ``layout`` the source is an OCI image layout, and this the tag or digest of an image in it.
    """

    source: Source = Source()
    image: str = ""
    layout: str | None = None


class RegistryLogin(Request):
    username: str
    password: str = Field(repr=False)


class CacheTarget(Request):
    """Where a build's cache is kept: PROJECT/NAME:TAG here, or HOST/NAME:TAG."""

    reference: str
    steps: bool = Field(default=True, description="also of stages that are not in the image")
    mounts: bool = Field(default=True, description="also the directories of --mount=type=cache")


class BuildRequest(Request):
    source: Source
    name: str = Field(description="repository below the project, e.g. web")
    tags: list[str] = Field(default_factory=lambda: ["latest"])
    dockerfile: str = "Dockerfile"
    inline: str | None = Field(
        default=None, description="the Dockerfile's text, instead of one in the source"
    )
    contexts: dict[str, NamedContext] = Field(
        default_factory=dict, description="for --from=NAME and FROM NAME"
    )
    target: str | None = None
    args: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    no_cache: bool = False
    no_cache_filter: list[str] = Field(default_factory=list, description="stages whose steps all run again")
    pull: bool = Field(default=False, description="ask other registries whether base images have changed")
    priority: Literal["low", "normal", "high"] = Field(
        default="normal", description="against other builds of the same priority of project"
    )
    builder: str = Field(default="", description="a Docker daemon by name; default: a worker of our own")
    platforms: list[str] = Field(
        default_factory=list, description="e.g. linux/arm64; several make an index; default: the server's own"
    )
    logins: dict[str, RegistryLogin] = Field(
        default_factory=dict,
        repr=False,
        description="of other registries, by host; in memory for this build only",
    )
    cache_from: list[str] = Field(default_factory=list, description="PROJECT/NAME:TAG here, or HOST/NAME:TAG")
    cache_to: list[CacheTarget] = Field(default_factory=list)
    ssh: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default_factory=list,
        max_length=16,
        description="ids of the caller's SSH agents: what steps ask them comes as events ssh.ask, see AgentAnswer",
    )
    check: bool = Field(default=False, description="only run the build checks; nothing is built")
    secrets: dict[str, str] = Field(
        default_factory=dict, repr=False, description="base64, by id; kept in memory for this build only"
    )


class AgentAnswer(Request):
    """What an SSH agent said to the message of an event ssh.ask: both without their length, in base64."""

    message: str = Field(max_length=360_000)


class Builder(Request):
    """Who builds for those who ask for it: a Docker daemon, or Pods of a cluster; see docs/builders.md."""

    name: str
    kind: Literal["remote", "socket", "dind", "kubernetes"]
    address: str = Field(
        default="unix:///var/run/docker.sock",
        description="the daemon's; for kubernetes a cluster's name, empty: the project's own; "
        "kubernetes://CLUSTER?daemon=ADDRESS: a daemon that is used by a Pod, for dind without ?daemon",
    )
    tls: str = Field(default="", description="directory on the server with ca.pem, cert.pem and key.pem")
    image: str = Field(default="", description="what dind starts")
    projects: list[str] = Field(default_factory=list, description="who may use it; empty: everybody")


class Prune(Request):
    """What may stay of the build cache: what was used within ``days``, and at most ``size`` bytes of it."""

    days: float = Field(ge=0, le=MOST_DAYS)
    size: int = Field(ge=0, le=MOST_BYTES)
    dry_run: bool = False


class Pruned(Answer):
    """What went (or would), by kind."""

    counts: dict[str, int]
    bytes: int
    dry_run: bool


class Build(Answer):
    id: str
    project: str
    app: str
    service: str
    owner: str
    state: str
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    image_digest: str | None = None
    error: str | None = None
    limits: dict[str, Any] = Field(default_factory=dict)
