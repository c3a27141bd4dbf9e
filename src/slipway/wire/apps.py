"""Delivering, showing and changing apps."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from slipway.wire.base import Answer, Request


class Source(Request):
    """Where source code is: a directory on the server's own machine, an uploaded tar by its id, or a repository."""

    path: str = ""
    upload: str = ""
    git: str = Field(default="", description="an address with #ref:subdirectory")
    revision: str = ""


class Deliver(Request):
    source: Source
    files: list[str] = Field(
        default_factory=list, description="Compose files below the source; default: found"
    )
    app: str = Field(default="", description="default: the Compose file's name, or the directory's")
    variables: dict[str, str] = Field(default_factory=dict, description="for ${…} in the Compose file")
    profiles: list[str] = Field(default_factory=list)
    no_cache: bool = False


class Render(Request):
    source: Source
    files: list[str] = Field(default_factory=list)
    app: str = ""
    variables: dict[str, str] = Field(default_factory=dict)
    profiles: list[str] = Field(default_factory=list)
    images: dict[str, str] = Field(
        default_factory=dict, description="by service; default: the app's present release's, or the file's"
    )


class Rollback(Request):
    to: int | None = Field(default=None, description="release number; default: the one before")


class MoveApp(Request):
    to: str = Field(description="name of a cluster")
    leave_data: bool = Field(default=False, description="even if the data of its volumes stays behind")


class Scale(Request):
    replicas: dict[str, int]


class Execute(Request):
    service: str
    replica: int = Field(default=0, description="of the service's instances; 0: any that runs")
    command: list[str] = Field(min_length=1)
    input: bool = Field(default=False, description="standard input comes by the session's own request")
    terminal: bool = False
    columns: int = Field(default=80, ge=1, le=10_000)
    rows: int = Field(default=24, ge=1, le=10_000)


class TerminalSize(Request):
    columns: int = Field(ge=1, le=10_000)
    rows: int = Field(ge=1, le=10_000)


class Instance(Answer):
    id: str
    service: str
    release: int
    replica: int
    state: str
    health: str = ""
    address: str = ""
    restarts: int = 0
    cluster: str = ""


class ClusterService(Answer):
    name: str
    replicas: int
    ready: int


class AppCluster(Answer):
    """``state``: carries, silent (it does not answer), away (others carry its share), leaving, data (left there)."""

    name: str
    state: str
    weight: int
    since: str = Field(default="", description="of silent and away")
    reason: str = ""
    services: list[ClusterService] = Field(default_factory=list)


class Service(Answer):
    name: str
    image: str
    replicas: int
    ready: int
    urls: list[str] = Field(default_factory=list)


class App(Answer):
    project: str
    name: str
    release: int | None
    state: str
    services: list[Service] = Field(default_factory=list)


class AppDetail(App):
    """``clusters``: empty for an app that runs on the server's own machine."""

    instances: list[Instance] = Field(default_factory=list)
    clusters: list[AppCluster] = Field(default_factory=list)


class Release(Answer):
    number: int
    status: str
    created: datetime
    created_by: str
    source_revision: str = ""
    digest: str
    images: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
