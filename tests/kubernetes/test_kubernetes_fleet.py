"""``slipway cluster`` against a real cluster: added, looked at, given to projects, forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from slipway.testing.kubernetes import Cluster, LocalCluster
from slipway.testing.platform import Running

pytestmark = pytest.mark.slow


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Running]:
    running = Running.make(tmp_path)
    running.up()
    yield running
    running.down()


def refusal(platform: Running, *words: str) -> str:
    done = platform.command(*words, ok=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


def test_a_cluster_from_add_to_rm(platform: Running, cluster: Cluster, tmp_path: Path) -> None:
    file = str(cluster.kubeconfig)
    found = platform.json("cluster", "add", "east", "--kubeconfig", file)
    assert (found["state"], found["warnings"]) == ("ready", [])
    assert found["version"].startswith("v1.")
    names = {node["name"] for node in found["nodes"] if node["ready"]}
    assert names == cluster.ready_nodes()
    assert found["usable"]["cpus"] > 0
    assert found["usable"]["memory"] > 0

    assert "exists already" in refusal(platform, "cluster", "add", "east", "--kubeconfig", file)
    platform.command("project", "create", "shop")
    platform.command("cluster", "bind", "east", "--project", "shop", "--weight", "3")
    (listed,) = platform.json("cluster", "ls")
    assert listed["projects"] == [{"cluster": "east", "project": "shop", "weight": 3}]
    shown = platform.command("cluster", "show", "east").stdout.decode()
    assert "shop (weight 3)" in shown
    assert all(name in shown for name in names)
    table = platform.command("cluster", "ls").stdout.decode().splitlines()
    assert table[1].split()[:2] == ["east", "ready"]

    assert "used by shop (0 apps)" in refusal(platform, "cluster", "rm", "east")
    platform.command("cluster", "unbind", "east", "--project", "shop")
    platform.command("cluster", "rm", "east")
    assert platform.json("cluster", "ls") == []
    assert "no cluster 'east'" in refusal(platform, "cluster", "show", "east")
    actions = [event["action"] for event in platform.json("audit", "--action", "cluster.*")]
    assert actions == ["cluster.remove", "cluster.unbind", "cluster.bind", "cluster.add"]


def test_what_a_server_must_not_do_for_a_kubeconfig(
    platform: Running, cluster: Cluster, tmp_path: Path
) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    owned = tmp_path / "owned"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [str(owned)]}
    document["users"][0]["user"] = {"exec": plugin}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    said = refusal(platform, "cluster", "add", "east", "--kubeconfig", str(file))
    assert "from a program" in said
    assert "hint: " in said
    assert not owned.exists()
    document["users"][0]["user"] = {"token": "wrong"}
    file.write_text(yaml.safe_dump(document))
    assert "does not accept our credentials" in refusal(
        platform, "cluster", "add", "east", "--kubeconfig", str(file)
    )


def test_only_administrators_see_clusters(platform: Running, cluster: Cluster, tmp_path: Path) -> None:
    platform.command("cluster", "add", "east", "--kubeconfig", str(cluster.kubeconfig))
    with platform.start_command("user", "create", "ada", "--password-stdin") as process:
        process.communicate(b"correct horse\n")
    platform.variables = {"SLIPWAY_SERVER": f"http://{platform.host}", "HOME": str(tmp_path)}
    login = ["login", f"http://{platform.host}", "-u", "ada", "--password-stdin"]
    with platform.start_command(*login) as process:
        process.communicate(b"correct horse\n")
        assert process.returncode == 0
    try:
        for words in (["ls"], ["show", "east"], ["rm", "east"], ["bind", "east", "--project", "demo"]):
            assert "administrator" in refusal(platform, "cluster", *words)
    finally:
        platform.variables = {}


def test_a_cordoned_node_takes_nothing_new(platform: Running, local_cluster: LocalCluster) -> None:
    before = platform.json("cluster", "add", "east", "--kubeconfig", str(local_cluster.kubeconfig))
    node = before["nodes"][0]["name"]
    local_cluster.kubectl("cordon", node)
    try:
        after = platform.json("cluster", "show", "east")
        assert [found["name"] for found in after["nodes"] if found["cordoned"]] == [node]
        assert after["usable"]["pods"] == before["usable"]["pods"] - before["nodes"][0]["allocatable"]["pods"]
        assert after["state"] == "ready"
    finally:
        local_cluster.kubectl("uncordon", node)
