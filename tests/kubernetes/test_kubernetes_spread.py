"""An app over two clusters, one of which goes away and comes back.

Both are the test cluster, each by a line of its own and with namespaces of its own. Cut, a line takes away the API
server, as far as the platform can tell; what runs there goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from slipway.base.ids import new_id
from slipway.testing.kubernetes import Cluster
from slipway.testing.kubernetes.objects import until
from slipway.testing.kubernetes_reach import let_reach
from slipway.testing.lines import Line, tcp_line
from slipway.testing.platform import Running, write_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
AWAY_SECONDS = 15
# How long an instance takes to answer: time enough to see that it has begun.
SLOW_SECONDS = 20
# Busy machines take their time; what is waited for comes in seconds.
PATIENCE = 120.0
STORE = """\
name: store
services:
  db:
    image: debian:bookworm
    command: [sleep, "100000"]
    stop_grace_period: 1s
    volumes: ["data:/data"]
volumes: {data: }
"""


@dataclass(slots=True)
class Site:
    platform: Running
    cluster: Cluster
    lines: dict[str, Line]
    mark: str

    def namespace(self, name: str) -> str:
        return f"{self.mark}-{name}-shop"

    def show(self, app: str = "small") -> dict[str, Any]:
        found = self.platform.json("app", "show", app, "--project", "shop")
        return {**found, "on": {item["name"]: item for item in found["clusters"]}}

    def is_on(self, **wanted: tuple[str, int]) -> bool:
        """By cluster: its state, and how many instances are ready there."""
        found = self.show()["on"]
        return {
            name: (item["state"], sum(service["ready"] for service in item["services"]))
            for name, item in found.items()
        } == wanted

    def running(self, name: str) -> int:
        """Containers there that have started and are not on their way out, as the cluster itself says."""
        return sum(
            bool(state.get("started"))
            for pod in self.cluster.get("pods", "-n", self.namespace(name))
            if "deletionTimestamp" not in pod["metadata"]
            for state in pod["status"].get("containerStatuses", ())
        )

    def command(self, *words: str, ok: bool = True) -> str:
        done = self.platform.command(*words, "--project", "shop", ok=ok)
        return (done.stdout + done.stderr).decode()


@pytest.fixture(scope="module")
def site(reaching_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("platform")
    running = Running.make(directory)
    let_reach(reaching_cluster, running)
    running.variables["SLIPWAY_KUBERNETES_AWAY_SECONDS"] = str(AWAY_SECONDS)
    view = ("config", "view", "--minify", "--flatten", "--raw", "--output=json")
    document = json.loads(reaching_cluster.kubectl(*view))
    where = document["clusters"][0]["cluster"]
    parts = urlsplit(where["server"])
    assert parts.hostname is not None
    mark = f"t{new_id()[:8].lower()}"
    target = (parts.hostname, parts.port or 443)
    with tcp_line(target) as east, tcp_line(target) as west:
        found = Site(running, reaching_cluster, {"east": east, "west": west}, mark)
        running.seed_base()
        running.up()
        running.command("project", "create", "shop")
        for name, line in found.lines.items():
            where["tls-server-name"] = parts.hostname
            where["server"] = f"https://127.0.0.1:{line.port}"
            file = directory / name
            file.write_text(json.dumps(document))
            add = ("cluster", "add", name, "--kubeconfig", str(file))
            if name == "west":
                refused = running.command(*add, "--namespace-prefix", f"{mark}-east-", ok=False)
                assert b"this is the cluster 'east' again" in refused.stderr
            running.command(*add, "--namespace-prefix", f"{mark}-{name}-")
            running.command("cluster", "bind", name, "--project", "shop")
        yield found
        running.down()
        for name in found.lines:
            words = ("delete", "namespace", found.namespace(name), "--wait=false", "--ignore-not-found")
            reaching_cluster.kubectl(*words)


@pytest.fixture
def spread(site: Site, tmp_path: Path) -> Iterator[Site]:
    """Four instances, two on each."""
    site.command("deliver", str(write_app(tmp_path / "app", "1")))
    site.command("app", "scale", "small", "web=4")
    until(lambda: site.is_on(east=("carries", 2), west=("carries", 2)), "both carry it", PATIENCE)
    yield site
    for line in site.lines.values():
        line.mend()
    until(lambda: site.is_on(east=("carries", 2), west=("carries", 2)), "both carry it", PATIENCE)
    site.command("app", "rm", "small")


def test_one_is_away_and_comes_back(spread: Site, tmp_path: Path) -> None:
    spread.lines["west"].cut()
    began = time.monotonic()
    until(lambda: spread.is_on(east=("carries", 4), west=("away", 0)), "east has all of it", PATIENCE)
    taken = time.monotonic() - began
    assert taken >= AWAY_SECONDS / 2, "a moment's silence moves nothing"
    assert spread.running("east") == 4
    assert spread.running("west") == 2, "what runs there goes on"
    said = spread.command("app", "show", "small")
    assert "on west          away since " in said
    assert "its share is on the others" in said
    assert "away" in spread.platform.command("cluster", "ls").stdout.decode()
    # A delivery meanwhile goes where the app is.
    spread.command("deliver", str(write_app(tmp_path / "app", "2")))
    until(lambda: spread.is_on(east=("carries", 4), west=("away", 0)), "it is on east alone", PATIENCE)

    least = spread.running("east")
    spread.lines["west"].mend()
    end = time.monotonic() + PATIENCE
    while not spread.is_on(east=("carries", 2), west=("carries", 2)):
        east, west = spread.running("east"), spread.running("west")
        least = min(least, east + west)
        assert time.monotonic() < end, spread.show()
    assert least >= 4, "first up there, then down here"
    releases = {item["release"] for item in spread.show()["instances"]}
    assert releases == {spread.show()["release"]}, "what was left there is of the present release"


def test_a_release_is_on_both_or_on_none(spread: Site, tmp_path: Path) -> None:
    source = write_app(tmp_path / "app", "3")
    spread.command("deliver", str(source))
    before = spread.show()["release"]
    spread.cluster.apply(
        {
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "full", "namespace": spread.namespace("west")},
            "spec": {"hard": {"pods": "0"}},
        }
    )  # fmt: skip
    write_app(source, "4")
    failed = spread.command("deliver", str(source), ok=False)
    assert "quota" in failed
    shown = spread.show()
    assert shown["release"] == before
    assert {item["release"] for item in shown["instances"]} == {before}
    until(lambda: spread.is_on(east=("carries", 2), west=("carries", 2)), "both have what they had", PATIENCE)
    spread.cluster.kubectl("delete", "resourcequota", "full", "-n", spread.namespace("west"))


def test_a_cluster_that_goes_silent_in_the_middle(spread: Site, tmp_path: Path) -> None:
    source = write_app(tmp_path / "app", "5")
    script = source / "app.pl"
    script.write_text(f"sleep {SLOW_SECONDS};\n{script.read_text()}")
    before = spread.running("west")
    release = spread.show()["release"]
    with spread.platform.start_command("deliver", str(source), "--project", "shop") as delivery:
        until(lambda: spread.running("west") > before, "a new instance has begun on west", PATIENCE)
        spread.lines["west"].cut()
        out, err = delivery.communicate(timeout=PATIENCE)
    said = (out + err).decode()
    assert delivery.returncode == 0, said
    assert "the cluster west has failed" in said
    assert "the release goes on without it" in said
    until(lambda: spread.is_on(east=("carries", 4), west=("away", 0)), "east has all of it", PATIENCE)
    (event,) = spread.platform.json("audit", "--project", "shop", "--action", "app.moved")[:1]
    assert (event["actor"], event["detail"]["from"], event["detail"]["to"]) == (
        "reconciliation", ["west"], ["east"],
    )  # fmt: skip
    assert "west failed" in event["detail"]["reason"]
    spread.lines["west"].mend()
    until(lambda: spread.is_on(east=("carries", 2), west=("carries", 2)), "both carry it", PATIENCE)
    assert {item["release"] for item in spread.show()["instances"]} == {release + 1}


def test_what_drifts_is_mended_on_each(spread: Site) -> None:
    for name in spread.lines:
        spread.cluster.kubectl("delete", "deployment", "small-web", "-n", spread.namespace(name))
    until(lambda: spread.running("east") == spread.running("west") == 2, "both are whole again", PATIENCE)


def test_an_app_with_a_volume_is_on_one_and_moves_when_asked(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "store"
    source.mkdir()
    (source / "compose.yaml").write_text(STORE)
    site.command("deliver", str(source))
    (home,) = site.show("store")["on"]
    (other,) = site.lines.keys() - {home}
    refused = site.command("app", "move", "store", "--to", other, ok=False)
    assert "their data would stay behind: data" in refused
    site.lines[home].cut()
    until(lambda: site.show("store")["on"][home]["state"] == "silent", "it is seen to be away", PATIENCE)
    time.sleep(AWAY_SECONDS + 10)
    assert site.show("store")["on"].keys() == {home}, "nobody asked"
    said = site.command("app", "move", "store", "--to", other, "--leave-data")
    assert "stays behind" in said
    until(lambda: site.show("store")["on"][other]["services"][0]["ready"] == 1, "it runs there", PATIENCE)
    site.lines[home].mend()
    until(lambda: site.show("store")["on"][home]["state"] == "data", "what was left is gone", PATIENCE)
    kinds = {item["kind"] for item in site.cluster.get("statefulset,pvc", "-n", site.namespace(home))}
    assert kinds == {"PersistentVolumeClaim"}
    site.command("app", "rm", "store", "--volumes")
    for name in site.lines:
        assert site.cluster.get("statefulset,pvc", "-n", site.namespace(name)) == []
