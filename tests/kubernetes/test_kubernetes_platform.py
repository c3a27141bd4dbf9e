"""The platform itself on a cluster: installed by its chart, from the image that Slipway made of itself; it builds and
delivers there, while its servers are killed and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from slipway.testing.kubernetes import LocalCluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes.serving import until_says
from slipway.testing.kubernetes.visitor import Visitor
from slipway.testing.leadership import leader_of
from slipway.testing.platform import Running, free_port, write_app
from slipway.testing.postgres import postgres
from slipway.testing.swift import ACCESS_KEY, SECRET_KEY, swift

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HELM = Path(sys.executable).parent / "helm"
SPACE, APPS, BUILDS = "slipway-platform", "slipway-shop", "build-slipway-shop"
PASSWORD = "correct horse"
REGISTRY_PORT = 30071
PATIENCE = 180.0


@dataclass(slots=True)
class Installed:
    """``client`` is the command line against the servers on the cluster, as their first administrator."""

    cluster: LocalCluster
    client: Running
    chart: Path
    image: str
    database: str

    def helm(self, *words: str) -> None:
        command = [str(HELM), "--kubeconfig", str(self.cluster.kubeconfig), "-n", SPACE, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
        if done.returncode:
            raise AssertionError(f"{done.stderr}\n{self.trouble()}")

    def set(self, *values: str) -> list[str]:
        common = (
            f"image={self.image}", "api.memory=512Mi", "api.cpu=50m", "registry.cpu=50m", "cluster=own",
            f"registry.nodePort={REGISTRY_PORT}", f"registryAddress=127.0.0.1:{REGISTRY_PORT}", "domain=apps.test",
        )  # fmt: skip
        return [word for value in (*common, *values) for word in ("--set", value)]

    def trouble(self) -> str:
        events = self.cluster.kubectl("-n", SPACE, "get", "events", "--sort-by=.lastTimestamp", ok=False)
        chosen = "--selector=app.kubernetes.io/name=slipway"
        said = self.cluster.kubectl(
            "-n", SPACE, "logs", "-l", "app.kubernetes.io/component=api", "--tail=40", ok=False
        )
        shown = self.cluster.kubectl("-n", SPACE, "get", "pods", "-o", "wide", chosen, ok=False)
        return f"{events}\n{shown}\n{said}"

    def pods(self) -> list[dict[str, Any]]:
        chosen = "--selector=app.kubernetes.io/component=api"
        found = self.cluster.get("pods", f"--namespace={SPACE}", chosen)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def leader(self) -> str:
        """The name of its Pod; empty while none leads."""
        address = leader_of(self.database)
        at = {f"http://{pod['status'].get('podIP')}:7070": pod["metadata"]["name"] for pod in self.pods()}
        return str(at.get(address, ""))

    def kill(self, pod: str) -> None:
        """Its process, as the kernel would; on nodes that are this machine's."""
        mine = f"HOSTNAME={pod}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mine in (entry / "environ").read_bytes().split(b"\0"):
                        os.kill(int(entry.name), signal.SIGKILL)
                except (OSError, ProcessLookupError):
                    continue

    def is_back(self, pod: str) -> bool:
        """Whether it was started again and serves. Until then its Service may still send somebody to nobody."""
        (found,) = (item for item in self.pods() if item["metadata"]["name"] == pod)
        (server,) = found["status"]["containerStatuses"]
        return bool(server["restartCount"] and server["ready"])

    def until_web_says(self, text: str) -> None:
        until_says(Visitor(self.cluster, "", SPACE), APPS, "web", 8000, text)


@pytest.fixture(scope="module")
def installed(hosted_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    directory, host = tmp_path_factory.mktemp("platform"), hosted_cluster.host_address
    with ExitStack() as stack:
        database = stack.enter_context(postgres(host)).database()
        bucket = stack.enter_context(swift(directory / "swift", host))
        # A machine makes the images, and is not needed any more.
        machine = Running.make(directory / "machine")
        machine.variables |= {
            "SLIPWAY_STORAGE_ACCESS_KEY": ACCESS_KEY,
            "SLIPWAY_STORAGE_SECRET_KEY": SECRET_KEY,
            "SLIPWAY_LISTEN": f"{host}:{machine.api_port}", "SLIPWAY_DATABASE_URL": database,
            "SLIPWAY_STORAGE_URL": bucket.bucket("images"), "SLIPWAY_KEYS": str(directory / "keys"),
        }  # fmt: skip
        machine.directory.mkdir(exist_ok=True)
        machine.command("install", "keys", str(directory / "keys"))
        machine.seed_base()
        machine.seed_platform()
        machine.up()
        stack.callback(machine.down)
        address = f"{host}:{machine.api_port}"
        for registry in (address, f"127.0.0.1:{REGISTRY_PORT}"):
            hosted_cluster.trust_registry(registry)
        made = machine.command("install", "image").stdout.decode().split()[-1]
        machine.command("install", "chart", str(directory / "chart"))
        for name in (SPACE, APPS, BUILDS):
            hosted_cluster.kubectl("delete", "namespace", name, "--ignore-not-found", seconds=200)
            stack.callback(
                hosted_cluster.kubectl, "delete", "namespace", name, "--wait=false", "--ignore-not-found"
            )
        found = Installed(
            hosted_cluster, machine, directory / "chart", f"{address}/{made}", _driver(database)
        )
        _secrets(found, machine, directory / "keys")
        found.helm("install", "mine", str(found.chart), *found.set(), "--wait", "--timeout", "240s")
        # From now on the nodes pull it from the platform's own registry.
        found.image = f"127.0.0.1:{REGISTRY_PORT}/{made}"
        found.helm("upgrade", "mine", str(found.chart), *found.set(), "--wait", "--timeout", "300s")
        assert found.leader() == ""  # the machine does, and they hand on to it
        machine.down()
        until(lambda: found.leader() != "", "one of them leads", 60)
        yield replace(found, client=_client(found, directory / "client"))


def _driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://")


def _secrets(found: Installed, machine: Running, keys: Path) -> None:
    kubectl = found.cluster.kubectl
    kubectl("create", "namespace", SPACE)
    chosen = ("SLIPWAY_DATABASE_", "SLIPWAY_STORAGE_")
    wanted = [item for item in machine.variables.items() if item[0].startswith(chosen)]
    settings = [f"--from-literal={name}={value}" for name, value in wanted]
    # What builds need here, on a small machine.
    more = {
        "SLIPWAY_BUILD_MEMORY": "512m", "SLIPWAY_BUILD_CPUS": "1", "SLIPWAY_BUILD_DISK": "4g",
        "SLIPWAY_KUBERNETES_EGRESS": f"0.0.0.0/0,{found.cluster.host_address}/32",  # where the repository is
    }  # fmt: skip
    settings += [f"--from-literal={name}={value}" for name, value in more.items()]
    kubectl("-n", SPACE, "create", "secret", "generic", "slipway-settings", *settings)
    kubectl("-n", SPACE, "create", "secret", "generic", "slipway-keys", f"--from-file={keys}")
    password = f"--from-literal=password={PASSWORD}"
    kubectl("-n", SPACE, "create", "secret", "generic", "slipway-admin", password)


def _client(found: Installed, directory: Path) -> Running:
    service = found.cluster.get("service", "slipway-api", f"--namespace={SPACE}")
    server = f"http://{service['spec']['clusterIP']}:7070"
    client = Running.make(directory)
    client.variables |= {"SLIPWAY_SERVER": server, "XDG_CONFIG_HOME": str(directory)}
    with client.start_command("login", server, "-u", "admin", "--password-stdin") as login:
        out, err = login.communicate(f"{PASSWORD}\n".encode(), timeout=60)
    assert login.returncode == 0, f"{out.decode()}\n{err.decode()}\n{found.trouble()}"
    client.command("project", "create", "shop")
    return client


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("source") / "app"


def test_an_app_is_built_and_delivered_where_the_platform_runs(installed: Installed, source: Path) -> None:
    client = installed.client
    (cluster,) = client.json("cluster", "ls")
    assert (cluster["name"], cluster["state"]) == ("own", "ready")
    write_app(source, "1")
    said = client.command("deliver", str(source), "--project", "shop").stdout.decode()
    assert "small: release 1 is serving" in said
    installed.until_web_says("version 1\n")
    inside = ("app", "exec", "--project", "shop", "small", "web", "--", "cat")
    for _ in range(2):  # by whichever server the Service chooses
        with client.start_command(*inside) as command:
            out, err = command.communicate(b"to and fro", timeout=60)
        assert (command.returncode, out) == (0, b"to and fro"), err.decode()
    (build,) = client.json("builds", "ls", "--project", "shop")
    assert build["state"] == "succeeded"
    assert "build.done" in client.command("--output", "json", "builds", "logs", build["id"]).stdout.decode()
    until(lambda: not installed.cluster.get("pods", f"--namespace={BUILDS}"), "the build's Pod is gone", 60)
    built = client.command("build", str(source), "--project", "shop", "-t", "by-hand:1").stdout.decode()
    assert "by-hand:1" in built


def test_the_servers_are_restricted(installed: Installed) -> None:
    for pod in installed.pods():
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        who = installed.cluster.kubectl("-n", SPACE, "exec", pod["metadata"]["name"], "--", "id", "-u")
        assert who.strip() == "10070"
    may = ("auth", "can-i", "--as", f"system:serviceaccount:{SPACE}:slipway-api")
    assert installed.cluster.kubectl(*may, "create", "pods", "-n", APPS).strip() == "yes"
    for wish in (("create", "clusterrolebindings"), ("delete", "nodes")):
        assert installed.cluster.kubectl(*may, *wish, ok=False).strip() in ("no", "")


def test_an_ingress_says_that_it_was_over_https(installed: Installed) -> None:
    service = installed.cluster.get("service", "slipway-registry", f"--namespace={SPACE}")["spec"]
    (port,) = (item["port"] for item in service["ports"])
    said = installed.cluster.on_node(
        "node-1", "curl", "-sS", "-o", "/dev/null", "-D", "-", "-H", "Host: slipway.example.org",
        "-H", "X-Forwarded-Proto: https", f"http://{service['clusterIP']}:{port}/v2/",
    )  # fmt: skip
    assert 'realm="https://slipway.example.org/token"' in said


@pytest.fixture
def repository(installed: Installed, tmp_path: Path) -> Iterator[str]:
    """The address of one with a small app in it, for who is on the cluster."""
    work = write_app(tmp_path / "app.git", "1")
    as_somebody = ("git", "-c", "user.name=T", "-c", "user.email=t@e.org", "-C", str(work))
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "1")):
        subprocess.run([*as_somebody, *words], check=True)
    host, port = installed.cluster.host_address, free_port()
    serve = ["git", "daemon", f"--listen={host}", f"--port={port}", "--export-all", f"--base-path={tmp_path}"]
    with subprocess.Popen([*serve, str(tmp_path)], stderr=subprocess.DEVNULL) as daemon:
        address = f"git://{host}:{port}/app.git"
        listed = ["git", "ls-remote", address]
        until(
            lambda: not subprocess.run(listed, capture_output=True, check=False).returncode, "it serves", 60
        )
        yield address
        daemon.terminate()


def test_a_repository_is_a_builds_source(installed: Installed, repository: str) -> None:
    built = installed.client.command("build", repository, "--project", "shop", "-t", "of-git:1")
    assert b"of-git:1" in built.stdout
    refused = installed.client.command(
        "build", "ssh://git@192.0.2.1/x.git", "--project", "shop", "-t", "x", ok=False
    )
    assert b"this server has no ssh" in refused.stderr
    assert b"https://" in refused.stderr


def test_nothing_is_fetched_that_builds_could_not_reach(installed: Installed, tmp_path: Path) -> None:
    service = installed.cluster.get("service", "kubernetes", "--namespace=default")
    asked = f"https://{service['spec']['clusterIP']}/version"
    (tmp_path / "Dockerfile").write_text(f"FROM debian:bookworm\nADD {asked} /version\n")
    refused = installed.client.command("build", str(tmp_path), "--project", "shop", "-t", "x", ok=False)
    assert refused.returncode != 0
    assert b"which builds here may not reach" in refused.stderr


def test_the_leader_is_killed_in_a_delivery(installed: Installed, source: Path) -> None:
    client = installed.client
    before = client.json("app", "show", "small", "--project", "shop")["release"]
    write_app(source, "2")
    (source / "Dockerfile").write_text(
        'FROM debian:bookworm\nRUN sleep 12\nCOPY app.pl /srv/app/\nCMD ["perl", "/srv/app/app.pl"]\n'
    )
    killed = installed.leader()
    with client.start_command("deliver", str(source), "--project", "shop") as delivery:
        until(lambda: bool(_running(client)), "the build runs", 120)
        installed.kill(killed)
        _, err = delivery.communicate(timeout=PATIENCE)
    assert delivery.returncode != 0
    assert err.strip()
    assert b"Traceback" not in err
    installed.until_web_says(f"version {before}\n")  # what serves goes on

    until(lambda: installed.is_back(killed), "the killed server is back", 120)
    said = client.command("deliver", str(source), "--project", "shop").stdout.decode()
    assert "is serving" in said
    installed.until_web_says("version 2\n")
    assert not _running(client)
    states = [build["state"] for build in client.json("builds", "ls", "--project", "shop")]
    assert states[:2] == ["succeeded", "interrupted"]
    until(lambda: not installed.cluster.get("pods", f"--namespace={BUILDS}"), "no Pod of a build is left", 60)


def _running(client: Running) -> list[dict[str, Any]]:
    found = client.json("builds", "ls", "--project", "shop")
    return [build for build in found if build["state"] == "running"]


def test_an_upgrade_rolls_while_a_delivery_goes_on(installed: Installed, source: Path) -> None:
    client = installed.client
    write_app(source, "3")
    (source / "Dockerfile").write_text(
        'FROM debian:bookworm\nRUN sleep 15\nCOPY app.pl /srv/app/\nCMD ["perl", "/srv/app/app.pl"]\n'
    )
    old = {pod["metadata"]["name"] for pod in installed.pods()}
    with client.start_command("deliver", str(source), "--project", "shop") as delivery:
        until(lambda: bool(_running(client)), "the build runs", 120)
        more = installed.set("logLevel=debug", "api.replicas=3")
        installed.helm("upgrade", "mine", str(installed.chart), *more, "--wait", "--timeout", "300s")
        out, err = delivery.communicate(timeout=PATIENCE)
    assert delivery.returncode == 0, f"{out.decode()}\n{err.decode()}\n{installed.trouble()}"
    installed.until_web_says("version 3\n")
    until(lambda: not old & {pod["metadata"]["name"] for pod in installed.pods()}, "all are new", 120)
    until(lambda: installed.leader() not in {"", *old}, "a new one leads", 300)
    client.command("app", "rollback", "small", "--project", "shop")
    installed.until_web_says("version 2\n")


def test_plain_manifests_are_the_same_platform(installed: Installed) -> None:
    """Without Helm, over the same database: what was delivered is known and goes on."""
    installed.helm("uninstall", "mine", "--wait")
    words = ("install", "kubernetes", "--namespace", SPACE, "--kubernetes", "1.20", *installed.set())
    printed = installed.client.command(*words).stdout
    installed.cluster.kubectl("apply", "-f", "-", stdin=printed)
    try:
        until(lambda: installed.leader() != "", "one of them leads", 120)
        client = _relogged(installed)
        installed.until_web_says("version 2\n")
        client.command("app", "rm", "small", "--project", "shop")
        until(lambda: not installed.cluster.get("deployments", f"--namespace={APPS}"), "the app is gone", 60)
    finally:
        installed.cluster.kubectl("delete", "-f", "-", "--wait=false", stdin=printed, seconds=200)


def _relogged(installed: Installed) -> Running:
    service = installed.cluster.get("service", "slipway-api", f"--namespace={SPACE}")
    server = f"http://{service['spec']['clusterIP']}:7070"
    client = installed.client
    client.variables["SLIPWAY_SERVER"] = server
    end = time.monotonic() + PATIENCE
    while True:
        with client.start_command("login", server, "-u", "admin", "--password-stdin") as login:
            _, err = login.communicate(f"{PASSWORD}\n".encode(), timeout=60)
        if login.returncode == 0:
            return client
        assert time.monotonic() < end, err.decode()
        time.sleep(1)
