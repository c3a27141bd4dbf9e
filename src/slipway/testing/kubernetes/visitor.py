"""Somebody whom the Services of a cluster answer."""

from __future__ import annotations

from slipway.testing.kubernetes.cluster import Cluster, LocalCluster

_POD = "visitor"


class Visitor:
    """A node of this machine's cluster; of any other a Pod, in a namespace of its own, from the first command on."""

    def __init__(self, cluster: Cluster, image: str, namespace: str) -> None:
        self.cluster = cluster
        self._image = image
        self._namespace = namespace
        self._came = False

    def shell(self, script: str, seconds: float = 120) -> str:
        """What a script of busybox's shell says there. Raises ``Failed``."""
        if isinstance(self.cluster, LocalCluster):
            return self.cluster.on_node("node-1", "busybox", "sh", "-c", script)
        self._come()
        words = ("exec", _POD, f"--namespace={self._namespace}", "--", "busybox", "sh", "-c", script)
        return self.cluster.kubectl(*words, seconds=seconds)

    def hears(self, place: str) -> str:
        """What HOST:PORT answers; empty while it does not."""
        return self.shell(f"busybox timeout 2 busybox wget -qO- http://{place}/ || true")

    def leave(self) -> None:
        if self._came:
            self.cluster.kubectl("delete", "namespace", self._namespace, "--wait=false", "--ignore-not-found")

    def _come(self) -> None:
        if self._came:
            return
        self._came = True
        container = {"name": "visitor", "image": self._image, "command": ["sleep", "100000"]}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}},
            {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": _POD, "namespace": self._namespace},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        )  # fmt: skip
        ready = (
            "wait",
            "--for=condition=Ready",
            f"pod/{_POD}",
            f"--namespace={self._namespace}",
            "--timeout=120s",
        )
        self.cluster.kubectl(*ready, seconds=130)
