"""The verbs of the platform API about clusters."""

from __future__ import annotations

from urllib.parse import quote

from slipway import wire
from slipway.client.transport import Transport

_CLUSTERS = "/api/v1/clusters"


class ClusterVerbs:
    """See ``Client.clusters``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self) -> list[wire.Cluster]:
        return [wire.Cluster.model_validate(item) for item in self._transport.call("GET", _CLUSTERS)]

    def show(self, name: str) -> wire.ClusterDetail:
        return wire.ClusterDetail.model_validate(self._transport.call("GET", _path(name)))

    def add(self, cluster: wire.NewCluster) -> wire.ClusterDetail:
        return wire.ClusterDetail.model_validate(
            self._transport.call("POST", _CLUSTERS, cluster.model_dump())
        )

    def remove(self, name: str, *, force: bool = False) -> None:
        self._transport.call("DELETE", _path(name) + ("?force=true" if force else ""))

    def bind(self, name: str, project: str, weight: int) -> wire.ClusterBinding:
        path = f"{_path(name)}/projects/{quote(project, safe='')}"
        return wire.ClusterBinding.model_validate(self._transport.call("PUT", path, {"weight": weight}))

    def unbind(self, name: str, project: str) -> None:
        self._transport.call("DELETE", f"{_path(name)}/projects/{quote(project, safe='')}")


def _path(name: str) -> str:
    return f"{_CLUSTERS}/{quote(name, safe='')}"
