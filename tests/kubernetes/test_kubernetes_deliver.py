"""``slipway deliver`` to a cluster, from the command line to the answer: built, stored, pulled, running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes.serving import until_says
from slipway.testing.kubernetes.visitor import Visitor
from slipway.testing.kubernetes_builds import PROJECT
from slipway.testing.platform import Running, write_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(580)]
SPACE = f"slipway-{PROJECT}"


@pytest.fixture(scope="module")
def visitor(cluster: Cluster, busybox: str) -> Iterator[Visitor]:
    found = Visitor(cluster, busybox, f"visits-{PROJECT}")
    yield found
    found.leave()


def until_web_says(visitor: Visitor, text: str) -> None:
    until_says(visitor, SPACE, "web", 8000, text)


@pytest.mark.smoke
def test_an_app_is_built_pulled_and_serves(
    platform: Running, cluster: Cluster, visitor: Visitor, tmp_path: Path
) -> None:
    source = write_app(tmp_path / "app", "1")
    said = platform.command("deliver", str(source)).stdout.decode()
    assert "small: release 1 is serving" in said
    until_web_says(visitor, "version 1\n")
    assert "nothing changed" in platform.command("deliver", str(source)).stdout.decode()
    write_app(source, "2")
    platform.command("deliver", str(source))
    until_web_says(visitor, "version 2\n")
    platform.command("app", "rollback", "small")
    until_web_says(visitor, "version 1\n")
    platform.command("app", "scale", "small", "web=2")
    shown = platform.json("app", "show", "small")
    assert (shown["state"], len(shown["instances"])) == ("serving", 2)
    assert {item["release"] for item in shown["instances"]} == {1}
    assert "listening" in platform.command("app", "logs", "small").stdout.decode()

    with platform.start_command("app", "exec", "small", "web", "--", "sh", "-c", "wc -c; exit 3") as process:
        counted, _ = process.communicate(bytes(300_000), timeout=60)
    assert (process.returncode, counted.strip()) == (3, b"300000")

    (deployment,) = cluster.get("deployments", "-n", SPACE)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith(f"{platform.registry}/{PROJECT}/small-web@sha256:")
    (robot,) = platform.json("robot", "ls", PROJECT)
    assert robot["name"].startswith("pull-")

    refused = source / "compose.yaml"
    refused.write_text(refused.read_text() + "    stop_signal: SIGINT\n")
    failed = platform.command("deliver", str(source), ok=False)
    assert failed.returncode != 0
    assert b"services.web.stop_signal cannot be had on Kubernetes" in failed.stdout + failed.stderr
    platform.command("app", "rm", "small")
    assert cluster.get("deployments,services,ingresses", "-n", SPACE) == []


def test_rendered_manifests_are_enough_for_kubectl(
    platform: Running, cluster: Cluster, visitor: Visitor, tmp_path: Path
) -> None:
    """Also those of a project that has no cluster."""
    project = f"{PROJECT}-by-hand"
    platform.command("project", "create", project)
    source = write_app(tmp_path / "app", "1")
    render = ("app", "render", "--project", project, "--app", "other", str(source))
    failed = platform.command(*render, ok=False)
    assert b"'web' has no image yet" in failed.stdout + failed.stderr
    image = f"web={platform.registry}/library/debian:bookworm"
    (source / "compose.yaml").write_text(
        "name: small\nservices:\n  web:\n    build: .\n    ports: [8000]\n"
        "    command: [perl, -MIO::Socket::INET, -e, "
        "'$$s = IO::Socket::INET->new(LocalPort => 8000, Listen => 9); while ($$c = $$s->accept) "
        '{ <$$c>; print $$c "HTTP/1.0 200 OK\\r\\n\\r\\nrendered\\n"; close $$c }\']\n'
    )
    text = platform.command(*render, "--image", image).stdout
    assert platform.json(*render, "--image", image)[0]["kind"] == "Namespace"
    cluster.kubectl("apply", "-f", "-", stdin=text)
    space = f"slipway-{project}"
    cluster.kubectl("rollout", "status", "deployment/other-web", "-n", space, "--timeout=120s", seconds=130)
    until_says(visitor, space, "web", 8000, "rendered\n")
