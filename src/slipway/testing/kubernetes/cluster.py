"""The test cluster from outside: started, used, hurt and removed.

Both classes keep nothing in memory that is not on the machine, so any process can make one and use the cluster that
another has started.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slipway.base import linux
from slipway.base.files import atomic_write
from slipway.errors import Failed, NotFound, Unavailable
from slipway.testing.kubernetes import control, groups, network, power, settings
from slipway.testing.kubernetes.binaries import binaries
from slipway.testing.kubernetes.images import pause_image
from slipway.testing.kubernetes.pki import Authority
from slipway.testing.kubernetes.site import (
    BINARIES,
    BRIDGE,
    ETCD,
    HOST,
    KUBECONFIG,
    KUBELET,
    LOCK,
    MOST_NODES,
    NODES,
    PAUSE,
    PKI,
    ROOT,
    VOLUMES,
    Node,
)

_START_SECONDS = 120.0
_STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "host", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "kubernetes.io/host-path",
}


class Cluster:
    """Any cluster, by its kubeconfig file."""

    __slots__ = ("kubeconfig",)

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def kubectl(self, *words: str, stdin: bytes | None = None, ok: bool = True, seconds: float = 60) -> str:
        """What ``kubectl`` says. Raises ``Failed`` when it fails, unless ``ok`` is unset."""
        found = str(BINARIES / "kubectl") if BINARIES.exists() else "kubectl"
        done = subprocess.run(
            [found, "--kubeconfig", self.kubeconfig, *words], input=stdin, capture_output=True, timeout=seconds,
            stdin=None if stdin is not None else subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if ok and done.returncode:
            raise Failed(f"kubectl {' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def get(self, *words: str) -> Any:
        """``kubectl get`` as JSON: an object or a list's ``items``."""
        found = json.loads(self.kubectl("get", *words, "--output=json"))
        return found.get("items", found)

    def apply(self, *objects: dict[str, Any]) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--filename=-", stdin=text.encode())

    def ready_nodes(self) -> set[str]:
        return {
            node["metadata"]["name"]
            for node in self.get("nodes")
            for condition in node["status"].get("conditions", ())
            if condition["type"] == "Ready" and condition["status"] == "True"
        }

    def open_nodes(self) -> set[str]:
        """Those that any Pod may start on: not cordoned, not away, not kept for others."""
        return {
            node["metadata"]["name"]
            for node in self.get("nodes")
            if not any(taint["effect"] != "PreferNoSchedule" for taint in node["spec"].get("taints", ()))
        }


class LocalCluster(Cluster):
    """The cluster of this machine."""

    __slots__ = ()

    host_address = HOST  # where nodes and Pods find what listens on this machine

    def __init__(self) -> None:
        super().__init__(KUBECONFIG)

    @property
    def nodes(self) -> list[str]:
        """The names of all nodes, whether they run or not."""
        return [node.name for node in self._nodes()]

    def _nodes(self) -> list[Node]:
        if not NODES.exists():
            return []
        return sorted((Node.named(path.name) for path in NODES.iterdir()), key=lambda node: node.number)

    def is_running(self) -> bool:
        return bool(groups.pids("etcd"))

    def up(self, nodes: int = 3) -> None:
        """Have the cluster running with at least ``nodes`` nodes; what runs already is left alone.

        What an earlier run left half is removed first. Raises ``Unavailable`` when something does not start.
        """
        if not 1 <= nodes <= MOST_NODES:
            raise Failed(f"a cluster of {nodes} nodes cannot be made", hint=f"ask for 1 to {MOST_NODES}")
        binaries()
        with _locked():
            if not self.is_running():
                self._clean()
                network.make_bridge()
                control.prepare()
            for name in control.PARTS:
                control.start(name)
            self._wait("the API server", self.answers)
            names = [Node(number).name for number in range(1, nodes + 1)]
            for name in names:
                self.start_node(name)
            network.service_route()
            self.apply(_STORAGE)
            self._wait("every node", lambda: set(names) <= self.ready_nodes())

    def down(self) -> None:
        """Remove everything, also of a run that was killed."""
        with _locked():
            self._clean()

    def _clean(self) -> None:
        groups.remove_all()
        network.remove_all()
        with suppress(OSError):
            linux.umount2(ETCD, linux.MNT_DETACH)
        for directory in (ROOT, VOLUMES):
            if directory.exists():
                shutil.rmtree(directory)
        with suppress(OSError):
            KUBELET.rmdir()

    def answers(self) -> bool:
        """Whether the API server does."""
        return self.kubectl("get", "--raw", "/readyz", ok=False) == "ok"

    def stop_api(self) -> None:
        """Kill the API server, alone."""
        groups.kill("apiserver")

    def start_api(self) -> None:
        """Returns when it answers."""
        control.start("apiserver")
        self._wait("the API server", self.answers)

    def kill_node(self, name: str) -> None:
        """Cut the power of a node: nobody hears of it again, and its processes and Pods end without a word."""
        power.cut(self._known(name))

    def start_node(self, name: str) -> None:
        """Make or switch on a node, with the disk that it had. Does nothing when it runs; does not wait for Ready."""
        node = Node.named(name)
        if groups.pids(node.group):
            return
        hosts = "".join(f"{one.address} {one.name}\n" for one in {node, *self._nodes()})
        settings.write(node, Authority(PKI), f"127.0.0.1 localhost\n{HOST} {BRIDGE}\n{hosts}")
        network.plug(node, self._nodes())
        power.start(node)
        self._import(node, pause_image(PAUSE))

    def import_image(self, archive: bytes | Path) -> None:
        """Put the images of an archive (Docker's or an OCI layout's tar) on every node that runs."""
        data = archive.read_bytes() if isinstance(archive, Path) else archive
        running = [node for node in self._nodes() if groups.pids(node.group)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self._import(node, data), running))

    def _import(self, node: Node, archive: bytes) -> None:
        self.on_node(node.name, "ctr", "--namespace=k8s.io", "images", "import", "-", stdin=archive)

    def on_node(self, name: str, *words: str, stdin: bytes | None = None) -> str:
        """Run a command as a process of the node. Raises ``Failed``."""
        node = self._known(name)
        pid = (node.directory / "pid").read_text()
        done = subprocess.run(
            ["nsenter", "--target", pid, "--mount", "--net", "--pid", "--uts", "--ipc", "--", *words],
            input=stdin, capture_output=True, check=False,
            stdin=None if stdin is not None else subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{' '.join(words)} on {name}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def trust_registry(self, address: str) -> None:
        """Let every node pull from the registry at ``address`` (``host:port``) over plain HTTP."""
        text = f'server = "http://{address}"\n\n[host."http://{address}"]\n  capabilities = ["pull", "resolve"]\n'
        for node in self._nodes():
            directory = node.certs / address
            directory.mkdir(parents=True, exist_ok=True)
            atomic_write(directory / "hosts.toml", text)

    def log(self, name: str) -> Path:
        """The log of a part of the control plane, or of ``NODE/DAEMON``."""
        node, _, daemon = name.partition("/")
        return self._known(node).directory / f"{daemon}.log" if daemon else control.log(name)

    def _known(self, name: str) -> Node:
        if name not in self.nodes:
            raise NotFound(f"the cluster has no node {name!r}", hint=f"there are {', '.join(self.nodes)}")
        return Node.named(name)

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            with suppress(Failed):
                if done():
                    return
            if time.monotonic() > end:
                raise Unavailable(
                    f"{what} of the test cluster is not ready", hint=f"see the logs below {ROOT}"
                )
            time.sleep(0.3)


@contextmanager
def _locked() -> Iterator[None]:
    fd = os.open(LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
