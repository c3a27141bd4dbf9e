"""``slipway deliver`` to a cluster, from the command line to the answer: built, stored, pulled, running."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.kubernetes import LocalCluster
from slipway.testing.kubernetes.serving import until_says
from slipway.testing.platform import Running, write_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]
SPACE = "slipway-demo"


@pytest.fixture(scope="module")
def platform(local_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    local_cluster.kubectl("delete", "namespace", SPACE, "--ignore-not-found")
    running = Running.make(tmp_path_factory.mktemp("platform"))
    address = f"{local_cluster.host_address}:{running.api_port}"
    running.variables["SLIPWAY_LISTEN"] = address
    running.seed_base()
    running.up()
    local_cluster.trust_registry(address)
    running.command("cluster", "add", "near", "--kubeconfig", str(local_cluster.kubeconfig))
    running.command("cluster", "bind", "near", "--project", "demo")
    yield running
    running.down()
    local_cluster.kubectl("delete", "namespace", SPACE, "--wait=false", "--ignore-not-found")


def until_web_says(cluster: LocalCluster, text: str) -> None:
    until_says(cluster, SPACE, "web", 8000, text)


@pytest.mark.smoke
def test_an_app_is_built_pulled_and_serves(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    source = write_app(tmp_path / "app", "1")
    said = platform.command("deliver", str(source)).stdout.decode()
    assert "small: release 1 is serving" in said
    until_web_says(local_cluster, "version 1\n")
    assert "nothing changed" in platform.command("deliver", str(source)).stdout.decode()
    write_app(source, "2")
    platform.command("deliver", str(source))
    until_web_says(local_cluster, "version 2\n")
    platform.command("app", "rollback", "small")
    until_web_says(local_cluster, "version 1\n")
    platform.command("app", "scale", "small", "web=2")
    shown = platform.json("app", "show", "small")
    assert (shown["state"], len(shown["instances"])) == ("serving", 2)
    assert {item["release"] for item in shown["instances"]} == {1}
    assert "listening" in platform.command("app", "logs", "small").stdout.decode()

    with platform.start_command("app", "exec", "small", "web", "--", "sh", "-c", "wc -c; exit 3") as process:
        counted, _ = process.communicate(bytes(300_000), timeout=60)
    assert (process.returncode, counted.strip()) == (3, b"300000")

    (deployment,) = local_cluster.get("deployments", "-n", SPACE)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith(f"{local_cluster.host_address}:{platform.api_port}/demo/small-web@sha256:")
    (robot,) = platform.json("robot", "ls", "demo")
    assert robot["name"].startswith("pull-")

    refused = source / "compose.yaml"
    refused.write_text(refused.read_text() + "    stop_signal: SIGINT\n")
    failed = platform.command("deliver", str(source), ok=False)
    assert failed.returncode != 0
    assert b"services.web.stop_signal cannot be had on Kubernetes" in failed.stdout + failed.stderr
    platform.command("app", "rm", "small")
    assert local_cluster.get("deployments,services,ingresses", "-n", SPACE) == []


def test_rendered_manifests_are_enough_for_kubectl(
    platform: Running, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    """Also those of a project that has no cluster."""
    platform.command("cluster", "unbind", "near", "--project", "demo")
    source = write_app(tmp_path / "app", "1")
    failed = platform.command("app", "render", "--app", "other", str(source), ok=False)
    assert b"'web' has no image yet" in failed.stdout + failed.stderr
    registry = f"{local_cluster.host_address}:{platform.api_port}"
    image = f"web={registry}/library/debian:bookworm"
    (source / "compose.yaml").write_text(
        "name: small\nservices:\n  web:\n    build: .\n    ports: [8000]\n"
        "    command: [perl, -MIO::Socket::INET, -e, "
        "'$$s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9); while ($$c = $$s->accept) "
        '{ <$$c>; print $$c "HTTP/1.0 200 OK\\r\\n\\r\\nrendered\\n"; close $$c }\']\n'
    )
    text = platform.command("app", "render", "--app", "other", str(source), "--image", image).stdout
    assert (
        platform.json("app", "render", "--app", "other", str(source), "--image", image)[0]["kind"]
        == "Namespace"
    )
    local_cluster.kubectl("apply", "-f", "-", stdin=text)
    local_cluster.kubectl(
        "rollout", "status", "deployment/other-web", "-n", SPACE, "--timeout=120s", seconds=130
    )
    try:
        until_web_says(local_cluster, "rendered\n")
    except subprocess.CalledProcessError as error:
        raise AssertionError(error.output) from error
