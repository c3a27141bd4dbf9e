"""Pods that have more than the usual: a volume, a Docker daemon, no user namespace."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.build.builders import BuilderRecord, address_in_pod
from slipway.build.devices import no_devices
from slipway.build.dockerfile import DeviceRequest
from slipway.build.pods import daemons, manifests, waiting
from slipway.build.pods.builder import Daemon, Place, record_of
from slipway.build.pods.daemons import daemon_of
from slipway.build.pods.desk import WorkerRefused
from slipway.build.pods.manifests import Site
from slipway.build.pods.volumes import CacheVolume, Volumes
from slipway.build.policy import IN_PLACE, BuildPolicy
from slipway.build.sandbox import Limits
from slipway.errors import Denied, Failed, Invalid, Unsupported

PLACE = Place("b1", "shop", Limits(2, 4 << 30, 100, 3600, 8 << 30), "east")
SITE = Site(
    "registry:1/w@sha256:00", "http://10.1.2.3:7070", [("10.1.2.3", 7070)], "mark",
    volume=CacheVolume(20 << 30, "fast"), registry="registry:1",
)  # fmt: skip


def test_a_volume_is_a_projects_and_a_servers() -> None:
    assert SITE.volume is not None
    claim = manifests.claim(SITE, PLACE, SITE.volume)
    assert claim["metadata"]["namespace"] == "build-slipway-shop"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20480Mi"}},
        "storageClassName": "fast",
    }  # fmt: skip
    assert manifests.claim(SITE, PLACE, CacheVolume(1, many=True))["spec"]["accessModes"] == ["ReadWriteMany"]
    other = replace(SITE, mark="another server")
    assert manifests.claim(other, PLACE, SITE.volume)["metadata"]["name"] != claim["metadata"]["name"]
    made = manifests.pod("n", SITE, replace(PLACE, keeps=True), 60)
    (container,) = made["spec"]["containers"]
    slot = manifests.id_slot(SITE, "shop")
    assert container["args"] == ["--cache", "/cache", "--slot", str(slot)]
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in made[
        "spec"
    ]["volumes"]
    assert "cache" not in json.dumps(manifests.pod("n", SITE, PLACE, 60))
    assert manifests.id_slot(SITE, "shop") == slot
    assert 0 <= slot < 8192


def test_who_has_a_volume_and_who_begins_with_empty_directories() -> None:
    volumes, told = Volumes(), list[str]()
    place = replace(PLACE, keeps=True)
    once, many = CacheVolume(1), CacheVolume(1, many=True)
    with volumes.given(place, once, told.append) as first:
        assert first.keeps
        with (
            volumes.given(place, once, told.append) as second,
            volumes.given(place, many, told.append) as third,
        ):
            assert not second.keeps
            assert third.keeps
        with volumes.given(replace(place, project="other"), once, told.append) as other:
            assert other.keeps
    assert told == [
        "the project's kept directories are in use by another build: this build begins with empty ones"
    ]
    with volumes.given(place, once, told.append) as again:
        assert again.keeps
    with volumes.given(replace(place, attempt=2), once, told.append) as later:
        assert not later.keeps
    assert "after a worker was lost" in told[-1]
    with (
        volumes.given(place, None, told.append) as nothing,
        volumes.given(PLACE, once, told.append) as needs_none,
    ):
        assert not nothing.keeps
        assert not needs_none.keeps
    assert len(told) == 2


def test_in_place_is_a_grant_and_a_pod_of_its_own() -> None:
    assert BuildPolicy(allow=(IN_PLACE,)).checked()
    made = manifests.pod("n", SITE, replace(PLACE, in_place=True), 60)
    (container,) = made["spec"]["containers"]
    assert container["args"] == ["--in-place"]
    assert "SYS_ADMIN" in container["securityContext"]["capabilities"]["add"]
    assert container["securityContext"]["privileged"] is False
    refused = {
        "spec": {"nodeName": "n1"},
        "status": {
            "containerStatuses": [{"state": {"terminated": {"exitCode": 4, "message": "no user namespace"}}}]
        },
    }
    assert isinstance(waiting.ended_by(refused), WorkerRefused)


def test_docker_in_docker_is_a_container_beside_an_unprivileged_worker() -> None:
    place = replace(PLACE, daemon=Daemon("old", "dind"))
    made = daemons.pod("n", SITE, place, 60, "registry:1/docker@sha256:00")
    assert made["metadata"]["namespace"] == "docker-slipway-shop"
    worker, docker = made["spec"]["containers"]
    assert worker["args"] == ["--daemon"]
    assert worker["securityContext"]["privileged"] is False
    assert worker["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert docker["securityContext"]["privileged"] is True
    assert docker["resources"]["limits"]["memory"] == "4096Mi"
    assert "--insecure-registry=registry:1" in docker["command"]
    assert not any(mount["name"] == "keys" for mount in docker["volumeMounts"]), "the token is the worker's"
    assert "hostPath" not in json.dumps(made)
    assert manifests.namespace(place)["metadata"]["name"] == "docker-slipway-shop"
    policies = manifests.policies(SITE, place)
    assert {item["metadata"]["namespace"] for item in policies} == {"docker-slipway-shop"}
    ended = {
        "spec": {"nodeName": "n1"},
        "status": {
            "containerStatuses": [
                {"name": "docker", "state": {"terminated": {"exitCode": 1, "message": "no"}}}
            ]
        },
    }
    error = waiting.ended_by(ended)
    assert isinstance(error, Failed)
    assert "the Docker daemon beside the worker ended with 1: no" in error.message


def test_the_nodes_socket_and_a_remote_daemon() -> None:
    node = daemon_of(
        BuilderRecord(
            "n", "socket", address_in_pod("east", "unix:///var/run/docker.sock"), projects=("shop",)
        )
    )
    assert node == Daemon("n", "socket", "/var/run/docker.sock")
    made = daemons.pod("n", SITE, replace(PLACE, daemon=node), 60, "")
    assert {"name": "node", "hostPath": {"path": "/var/run/docker.sock", "type": "Socket"}} in made["spec"][
        "volumes"
    ]
    assert len(made["spec"]["containers"]) == 1
    event = {
        "reason": "FailedMount",
        "message": "hostPath type check failed: /var/run/docker.sock is not a socket file",
    }
    error = waiting.unmountable(event, "n1")
    assert error is not None
    assert error.message == "the node n1 has no Docker daemon: there is no socket at /var/run/docker.sock"
    assert waiting.unmountable({"message": "timed out"}, "n1") is None


def test_certificates_of_a_remote_daemon_are_in_the_pods_secret(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text(name)
    record = BuilderRecord("r", "remote", address_in_pod("", "tcp://docker:2376"), str(tmp_path))
    daemon = daemon_of(record.checked())
    assert daemon is not None
    place = replace(PLACE, daemon=daemon)
    data = manifests.secret("n", SITE, place, "tok")["data"]
    assert base64.b64decode(data["docker-key.pem"]) == b"key.pem"
    made = daemons.pod("n", SITE, place, 60, "")
    (keys, tls) = (item["secret"] for item in made["spec"]["volumes"] if "secret" in item)
    assert "key.pem" not in json.dumps(keys), "the worker's own keys have nothing of Docker's"
    assert {"key": "docker-key.pem", "path": "key.pem"} in tls["items"]
    assert record_of(daemon) == BuilderRecord("r", "remote", "tcp://docker:2376", "/run/slipway/tls")
    (tmp_path / "key.pem").unlink()
    with pytest.raises(Invalid, match="cannot be read"):
        daemon_of(record)


def test_records_of_builders_in_pods() -> None:
    record = BuilderRecord("d", "dind", address_in_pod("east", ""), projects=("shop",)).checked()
    assert (record.in_pod, record.cluster, record.daemon) == (True, "east", "")
    own = BuilderRecord("k", "kubernetes", "")
    assert (own.in_pod, own.cluster) == (True, "")
    here = BuilderRecord("s", "socket", "unix:///var/run/docker.sock").checked()
    assert (here.in_pod, here.daemon) == (False, "unix:///var/run/docker.sock")
    with pytest.raises(Invalid, match="name the projects"):
        BuilderRecord("d", "dind", address_in_pod("east", "")).checked()
    with pytest.raises(Invalid, match="name the projects"):
        BuilderRecord("s", "socket", address_in_pod("", "unix:///s")).checked()
    with pytest.raises(Invalid, match="not an address for a remote builder in a Pod"):
        BuilderRecord("r", "remote", address_in_pod("", "unix:///s")).checked()
    with pytest.raises(Invalid, match="not the name of a cluster"):
        BuilderRecord("d", "dind", address_in_pod("a b", ""), projects=("p",)).checked()


def test_a_pod_has_no_devices() -> None:
    needed, optional = DeviceRequest("/dev/fuse", True), DeviceRequest("vendor.com/gpu=1", False)
    with pytest.raises(Denied, match="not allowed in this project"):
        no_devices([needed], [])
    with pytest.raises(Unsupported, match="a step in a Pod has no device of its node"):
        no_devices([needed], ["device=/dev/fuse"])
    assert no_devices([optional], []).missing == ("vendor.com/gpu=1",)
