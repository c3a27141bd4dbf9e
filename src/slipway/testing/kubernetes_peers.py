"""What one does with kubectl alone: builds as privileged Pods of buildah's, a Deployment whose image is set."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.errors import Failed
from slipway.testing.kubernetes.cluster import LocalCluster
from slipway.testing.peers import BASE, Buildah

NAMESPACE = "bench-peer"
POLL_SECONDS = 20  # as build systems over a cluster ask for what became of their Pods
_BUILD_SECONDS = 400
_STORE = "--storage-driver=overlay --root=/work/root --runroot=/work/run"


@dataclass(slots=True)
class ByHand:
    """``registry`` is where the images go, as ``user`` with ``secret``; it has the base and
    ``library/buildah:bookworm``. ``asked`` is what a build asks of its node: CPUs, bytes of memory.
    """

    cluster: LocalCluster
    registry: str
    user: str
    secret: str
    buildah: Buildah
    asked: Mapping[str, float]

    def prepare(self) -> None:
        """A namespace with what it takes to push and pull."""
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", seconds=120)
        self.cluster.kubectl("create", "namespace", NAMESPACE)
        word = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        login = json.dumps({"auths": {self.registry: {"auth": word}}})
        self._kubectl(
            "create", "secret", "generic", "pull", "--type=kubernetes.io/dockerconfigjson",
            f"--from-literal=.dockerconfigjson={login}",
        )  # fmt: skip

    def remove(self) -> None:
        self.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")

    # Builds

    def start(self, name: str, source: Path, *, job: bool = False, push: bool = True) -> None:
        """A Pod, or a Job, that builds; its log ends with ``BUILT``, and with ``PUSHED``."""
        text = (
            (source / "Dockerfile")
            .read_text()
            .replace(f"FROM {BASE}", f"FROM {self.registry}/library/{BASE}")
        )
        self._kubectl("create", "configmap", name, f"--from-literal=Dockerfile={text}")
        login = f"--tls-verify=false --creds={self.user}:'{self.secret}'"
        image = f"{self.registry}/demo/peer:{name}"
        script = f"buildah {_STORE} bud --isolation=chroot {login} -t {image} /context && echo BUILT" + (
            f" && buildah {_STORE} push {login} {image} && echo PUSHED" if push else ""
        )
        container = {
            "name": "build", "image": f"{self.registry}/library/buildah:bookworm", "command": ["sh", "-c", script],
            "securityContext": {"privileged": True},
            "resources": {"requests": {what: str(amount) for what, amount in self.asked.items()}},
            "volumeMounts": [{"name": "context", "mountPath": "/context"}, {"name": "work", "mountPath": "/work"}],
        }  # fmt: skip
        volumes = [{"name": "context", "configMap": {"name": name}}, {"name": "work", "emptyDir": {}}]
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
        metadata = {"name": name, "namespace": NAMESPACE, "labels": {"build": name}}
        one: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        if job:
            template = {"metadata": {"labels": {"build": name}}, "spec": spec}
            one |= {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "spec": {"backoffLimit": 4, "template": template},
            }
        self.cluster.apply(one)

    def wait(self, names: Sequence[str], word: str, every: float) -> None:
        """Until the log of every one has ``word``. Raises ``Failed`` when one fails, or takes too long."""
        end = time.monotonic() + _BUILD_SECONDS
        waiting = list(names)
        while waiting:
            time.sleep(every)
            failed = self._in("Failed")  # before the logs: what one of these says is whole
            said = {name: self._kubectl("logs", name, ok=False) for name in waiting}
            waiting = [name for name in waiting if word not in said[name]]
            for name in waiting:
                if name in failed or time.monotonic() > end:
                    how = "failed" if name in failed else "does not end"
                    raise Failed(f"the peer's build {name} {how}: {said[name][-2000:]}")

    def ended(self, names: Sequence[str]) -> None:
        """Until all of them are. Raises as ``wait`` does; asks for all at once, which costs a small machine less."""
        end = time.monotonic() + _BUILD_SECONDS
        while set(names) - self._in("Succeeded"):
            if failed := self._in("Failed") & set(names):
                raise Failed(
                    f"the peer's build {min(failed)} failed: {self._kubectl('logs', min(failed))[-2000:]}"
                )
            if time.monotonic() > end:
                raise Failed("the peer's builds do not end")
            time.sleep(2)

    def _in(self, phase: str) -> set[str]:
        found = self.cluster.get("pods", f"--namespace={NAMESPACE}", f"--field-selector=status.phase={phase}")
        return {pod["metadata"]["name"] for pod in found}

    def build(self, name: str, source: Path, word: str, every: float) -> float:
        """Seconds from its start to the question that is answered with ``word``."""
        began = time.monotonic()
        self.start(name, source, push=word == "PUSHED")
        self.wait([name], word, every)
        seconds = time.monotonic() - began
        self._kubectl("delete", "pod", name, "--wait=false")
        return seconds

    def nodes(self, name: str) -> set[str]:
        """Where a build runs."""
        found = self.cluster.get("pods", f"--namespace={NAMESPACE}", f"--selector=build={name}")
        return {pod["spec"]["nodeName"] for pod in found if pod["status"].get("phase") == "Running"}

    # Apps

    def deliver(self, source: Path, version: str, *, first: bool = False) -> None:
        """Build and push on this machine, and set the image of the Deployment ``web``; returns when it has rolled."""
        image = f"{self.registry}/demo/peer-app:{version}"
        self.buildah.build(source, image)
        self.buildah.push(image, creds=f"{self.user}:{self.secret}")
        if first:
            self._kubectl("create", "deployment", "web", f"--image={image}", "--port=8000")
            self._kubectl("expose", "deployment", "web", "--port=8000")
            pull = {"spec": {"template": {"spec": {"imagePullSecrets": [{"name": "pull"}]}}}}
            self._kubectl("patch", "deployment", "web", "-p", json.dumps(pull))
        else:
            self._kubectl("set", "image", "deployment/web", f"*={image}")
        self._kubectl("rollout", "status", "deployment/web", "--timeout=120s", seconds=130)

    def _kubectl(self, *words: str, **options: Any) -> str:
        return self.cluster.kubectl("-n", NAMESPACE, *words, **options)
