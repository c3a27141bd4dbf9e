"""NetworkPolicies hold on the test cluster, so that a wrong one is seen."""

from __future__ import annotations

from typing import Any

from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes.objects import pod, until, web


def _policy(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"app": "client"}}, **spec},
    }


def test_pod_reaches_what_its_policies_open_and_nothing_else(
    cluster: Cluster, namespace: str, busybox: str
) -> None:
    client = pod(namespace, "client", busybox, ["sleep", "600"])
    client["metadata"]["labels"] = {"app": "client"}
    cluster.apply(*web(namespace, "web", busybox, 2), *web(namespace, "other", busybox, 1), client)
    for name in ("web", "other"):
        words = ["rollout", "status", f"deployment/{name}", f"--namespace={namespace}", "--timeout=120s"]
        cluster.kubectl(*words, seconds=130)
    cluster.kubectl(
        "wait",
        "--for=condition=Ready",
        "pod/client",
        f"--namespace={namespace}",
        "--timeout=120s",
        seconds=130,
    )

    def reaches(name: str) -> bool:
        asked = ["busybox", "timeout", "2", "wget", "-qO-", f"http://{name}/"]
        words = ["exec", "client", f"--namespace={namespace}", "--", *asked]
        return bool(cluster.kubectl(*words, ok=False))

    until(lambda: reaches("web") and reaches("other"), "everything is open without a policy")
    cluster.apply(_policy(namespace, "nothing", policyTypes=["Ingress", "Egress"]))
    until(lambda: not reaches("web"), "nothing is reached")
    assert not reaches("other")
    assert not reaches("10.96.0.1:443")
    opened = [
        {"ports": [{"port": 53, "protocol": "UDP"}]},
        {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}]},
    ]
    cluster.apply(_policy(namespace, "web", policyTypes=["Egress"], egress=opened))
    until(lambda: reaches("web"), "what was opened is reached")
    assert not reaches("other")
    cluster.kubectl("delete", "networkpolicy", "--all", f"--namespace={namespace}")
    until(lambda: reaches("other"), "everything is open again")
