"""The platform's registry on a cluster: from its chart and from its manifests, out of an image that Slipway made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from slipway.testing.kubernetes import LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.platform import Running
from slipway.testing.postgres import postgres
from slipway.testing.registry_clients import umoci_layout
from slipway.testing.swift import ACCESS_KEY, SECRET_KEY, swift

pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]
HELM = Path(sys.executable).parent / "helm"
SECRET = "correct horse"
NAMESPACE = "slipway-installed"
PORT = 30070


@pytest.fixture(scope="module")
def main(hosted_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A whole server over the database and the bucket that the cluster's registries share."""
    directory = tmp_path_factory.mktemp("install")
    host = hosted_cluster.host_address
    with ExitStack() as stack:
        database = stack.enter_context(postgres(host)).database()
        bucket = stack.enter_context(swift(directory / "swift", host))
        running = Running.make(directory / "platform")
        running.variables |= bucket.environment | {
            "SLIPWAY_LISTEN": f"{host}:{running.api_port}",
            "SLIPWAY_DATABASE_URL": database,
            "SLIPWAY_STORAGE_URL": bucket.bucket("images"),
            "SLIPWAY_KEYS": str(directory / "keys"),
            "SLIPWAY_STORAGE_ACCESS_KEY": ACCESS_KEY,
            "SLIPWAY_STORAGE_SECRET_KEY": SECRET_KEY,
        }
        running.directory.mkdir(exist_ok=True)
        running.command("install", "keys", str(directory / "keys"))
        running.seed_platform()
        running.up()
        stack.callback(running.down)
        hosted_cluster.trust_registry(f"{host}:{running.api_port}")
        hosted_cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", seconds=120)
        hosted_cluster.kubectl("create", "namespace", NAMESPACE)
        stack.callback(
            hosted_cluster.kubectl, "delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found"
        )
        wanted = ("SLIPWAY_DATABASE_URL", "SLIPWAY_STORAGE_URL", *bucket.environment)
        settings = [f"--from-literal={name}={running.variables[name]}" for name in wanted]
        hosted_cluster.kubectl("-n", NAMESPACE, "create", "secret", "generic", "slipway-settings", *settings)
        keys = f"--from-file={directory / 'keys'}"
        hosted_cluster.kubectl("-n", NAMESPACE, "create", "secret", "generic", "slipway-keys", keys)
        yield running


@pytest.fixture(scope="module")
def image(main: Running, hosted_cluster: LocalCluster) -> str:
    made = main.command("install", "image").stdout.decode().split()[-1]
    return f"{hosted_cluster.host_address}:{main.api_port}/{made}"


def ready(cluster: LocalCluster) -> int:
    found = cluster.get("deployment", "slipway-registry", f"--namespace={NAMESPACE}")
    return int(found["status"].get("readyReplicas", 0)) if found["status"].get("updatedReplicas") else 0


def pods(cluster: LocalCluster) -> list[dict[str, Any]]:
    chosen = "--selector=app.kubernetes.io/component=registry"
    found = cluster.get("pods", f"--namespace={NAMESPACE}", chosen)
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def service(cluster: LocalCluster) -> str:
    found = cluster.get("service", "slipway-registry", f"--namespace={NAMESPACE}")
    return f"{found['spec']['clusterIP']}:7070"


def copy(source: str, target: str, *words: str) -> None:
    command = ["skopeo", "--insecure-policy", "copy", "-q", *words, source, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def helm(cluster: LocalCluster, *words: str) -> None:
    command = [str(HELM), "--kubeconfig", str(cluster.kubeconfig), "-n", NAMESPACE, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        events = cluster.kubectl("-n", NAMESPACE, "get", "events", "--sort-by=.lastTimestamp")
        chosen = "--selector=app.kubernetes.io/component=registry"
        said = cluster.kubectl("-n", NAMESPACE, "logs", chosen, "--tail=20", "--all-containers", ok=False)
        raise AssertionError(f"{done.stderr}\n{events}\n{said}")


@pytest.mark.smoke
def test_the_chart_serves_rolls_and_loses_nothing(
    main: Running, image: str, hosted_cluster: LocalCluster, tmp_path: Path
) -> None:
    main.start_command("user", "create", "dev", "--password-stdin").communicate(f"{SECRET}\n".encode())
    main.command("project", "add", "demo", "dev", "--role", "developer")
    main.command("install", "chart", str(tmp_path / "chart"))
    chart = str(tmp_path / "chart")
    common = ("--set", f"image={image}", "--set", "api.replicas=0", "--wait", "--timeout", "90s")
    helm(hosted_cluster, "install", "mine", chart, *common)
    assert ready(hosted_cluster) == 2
    assert len({pod["spec"]["nodeName"] for pod in pods(hosted_cluster)}) == 2

    layout = umoci_layout(tmp_path, b"hello\n")
    login = ("--dest-creds", f"dev:{SECRET}", "--dest-tls-verify=false")
    address = service(hosted_cluster)
    copy(f"oci:{layout}:1", f"docker://{address}/demo/app:v1", *login)
    assert "demo/app" in json.dumps(main.json("image", "ls"))  # the whole server sees what they took

    more = ("--set", "registry.replicas=3", "--set", "logLevel=debug")
    helm(hosted_cluster, "upgrade", "mine", chart, *common, *more)
    until(lambda: ready(hosted_cluster) == 3, "three registries are ready", 120)
    there = ("--src-creds", f"dev:{SECRET}", "--src-tls-verify=false")
    copy(f"docker://{address}/demo/app:v1", f"oci:{tmp_path / 'back'}:1", *there)
    helm(hosted_cluster, "uninstall", "mine", "--wait")


def test_the_manifests_serve_at_the_restricted_level(
    main: Running, image: str, hosted_cluster: LocalCluster
) -> None:
    words = ["--namespace", NAMESPACE, "--kubernetes", "1.20", "--set", f"image={image}"]
    words += ["--set", "api.replicas=0", "--set", f"registry.nodePort={PORT}"]
    printed = main.command("install", "kubernetes", *words).stdout
    hosted_cluster.kubectl("apply", "-f", "-", stdin=printed)
    until(lambda: ready(hosted_cluster) == 2, "the registries are ready", 200)
    who = hosted_cluster.kubectl(
        "-n", NAMESPACE, "exec", pods(hosted_cluster)[0]["metadata"]["name"], "--", "id", "-u"
    )
    assert who.strip() == "10070"
    code = hosted_cluster.on_node(
        hosted_cluster.nodes[-1],
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        f"127.0.0.1:{PORT}/v2/",
    )
    assert code == "401"
    hosted_cluster.kubectl("delete", "-f", "-", stdin=printed, seconds=200)
