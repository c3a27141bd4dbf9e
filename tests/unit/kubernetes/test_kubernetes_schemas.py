"""Everything that we send to a cluster, against the schemas of every version from 1.20 to the newest.

What a version serves is told to the real discovery, and each object is checked in the version that this chooses.
Unknown fields are refused.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from slipway.app.pods import has_user_namespaces
from slipway.base.clock import now
from slipway.build.pods import daemons
from slipway.build.pods import manifests as builds
from slipway.build.pods.builder import Daemon, Place
from slipway.build.pods.manifests import Site
from slipway.build.pods.volumes import CacheVolume
from slipway.build.sandbox import Limits
from slipway.compose import load
from slipway.delivery.engine import AppRef, Wanted
from slipway.delivery.releases import Release
from slipway.engines.kubernetes import Setting, manifests, namespace_manifest
from slipway.engines.kubernetes.pulls import PullLogin, pull_secret
from slipway.engines.kubernetes.record import Record, record_manifest
from slipway.install import documents, policy_version, read_values, write_chart
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.testing.api_server import api_server

OLD = Path(__file__).parent / "schemas"
NEW = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
HELM = Path(sys.executable).parent / "helm"
APP = AppRef("demo", "shop")
COMPOSE = """\
services:
  web:
    image: web
    command: serve $$HOME
    entrypoint: [/init]
    environment: {A: "1", B: "$$(A)"}
    ports: ["8080:8000", "9000"]
    expose: [7000]
    depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
    healthcheck: {test: curl -f localhost, interval: 20s, timeout: 2s, retries: 3, start_period: 9s}
    user: "1000:2000"
    read_only: true
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    tmpfs: /scratch
    shm_size: 64m
    working_dir: /srv
    hostname: front
    extra_hosts: [a=10.0.0.1, b=10.0.0.1]
    stop_grace_period: 30s
    labels: {team: x}
    volumes: [/var/cache]
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.5", memory: 256m}, reservations: {cpus: "0.1", memory: 64m}}
      update_config: {order: stop-first}
    networks: {front: , back: {aliases: [api]}}
    configs: [{source: site, target: /etc/site, mode: 0400}]
    secrets: [key]
  plain:
    image: plain
    ports: [80]
    networks: [front]
  worker:
    image: worker
    networks: [back]
  db:
    image: db
    volumes: ["data:/data", "data:/again:ro", /cache]
    networks: [back]
    restart: always
  migrate:
    image: web
    restart: on-failure:3
    networks: [back]
  nightly:
    image: web
    x-slipway: {job: true}
volumes: {data: {x-slipway: {size: 10g}}}
networks: {front: , back: {internal: true}}
configs: {site: {content: hello}}
secrets: {key: {environment: KEY}}
"""
INSTALLED = ("registry.nodePort=30070", "host=r.example.org")


def versions() -> list[str]:
    found = [path.name.removesuffix(".json.gz") for path in OLD.glob("*.json.gz")]
    found += [path.name.removesuffix(".0-local-strict") for path in NEW.glob("*-local-strict")]
    return sorted(found, key=lambda name: int(name.partition(".")[2]))


@dataclass(frozen=True, slots=True)
class Schemas:
    """``served``: by API version, the kinds. ``names``: by API version and kind, the definition."""

    document: Mapping[str, Any]
    place: str
    served: Mapping[str, Mapping[str, tuple[str, bool]]]
    names: Mapping[tuple[str, str], str]

    def complaints(self, obj: Mapping[str, Any]) -> Iterator[str]:
        name = self.names[obj["apiVersion"], obj["kind"]]
        whole = {**self.document, "$ref": f"#/{self.place}/{name}"}
        for error in jsonschema.Draft201909Validator(whole).iter_errors(obj):
            where = ".".join(map(str, error.absolute_path))
            yield f"{obj['kind']} {obj['metadata']['name']} ({obj['apiVersion']}): {where}: {error.message[:300]}"


@lru_cache(maxsize=2)
def schemas(version: str) -> Schemas:
    old = OLD / f"{version}.json.gz"
    if old.exists():
        place, definitions = "definitions", json.loads(gzip.decompress(old.read_bytes()))
    else:
        place = "$defs"
        definitions = json.loads((NEW / f"{version}.0-local-strict" / "_definitions.json").read_text())[
            "$defs"
        ]
    served: dict[str, dict[str, tuple[str, bool]]] = {}
    names = {}
    for name, definition in definitions.items():
        kinds = definition.get("x-kubernetes-group-version-kind", ())
        if len(kinds) != 1:
            continue  # options of requests are of every version
        group, api, kind = kinds[0]["group"], kinds[0]["version"], kinds[0]["kind"]
        api = f"{group}/{api}" if group else api
        served.setdefault(api, {})[kind] = (f"{kind.lower()}s", True)
        names[api, kind] = name
    return Schemas({place: definitions}, place, served, names)


@asynccontextmanager
async def cluster(version: str) -> AsyncIterator[tuple[ClusterClient, Schemas]]:
    """A client of an API server that says it serves what the version does."""
    found = schemas(version)
    async with api_server() as server:
        server.kinds = dict(found.served)
        async with ClusterClient(read_kubeconfig(server.kubeconfig(token="t"))) as client:
            yield client, found


async def as_sent(client: ClusterClient, obj: Mapping[str, Any]) -> dict[str, Any]:
    """In the version that is applied."""
    group, _, _ = str(obj["apiVersion"]).rpartition("/")
    return {**obj, "apiVersion": (await client.resource(obj["kind"], group)).api_version}


def app_objects(directory: Path) -> list[dict[str, Any]]:
    (directory / "compose.yaml").write_text(COMPOSE)
    model = load(directory, variables={"KEY": "s"}, name="shop")
    images = {name: {"reference": name, "digest": "sha256:" + "0" * 64} for name in model.services}
    wanted = Wanted(Release(7, model, images, "d", "active", now(), "ada"))
    setting = Setting("r:1", "x.org", "pull", "nginx", "fast")
    login = PullLogin("robot", "s", now() + timedelta(days=1))
    return [
        namespace_manifest("demo", "slipway-demo"),
        pull_secret("demo", "slipway-demo", "r:1", login),
        record_manifest(APP, Record("slipway-demo", 1, "me", now(), 7, {"web": "x"}, "5")),
        *manifests(APP, wanted, setting, renewed={"web": "2026-01-01"}),
    ]


def build_objects(version: str) -> list[dict[str, Any]]:
    site = Site(
        "r/worker@sha256:00", "https://s:7070", [("10.1.2.3", 7070), ("fc00::1", 7070)], "mark",
        ["0.0.0.0/0", "::/0"], ["10.0.0.0/8", "fc00::/7"], b"PEM", not has_user_namespaces(f"{version}.3"),
    )  # fmt: skip
    place = Place("b1", "shop", Limits(2, 4 << 30, 100, 3600, 8 << 30), "east", frozenset({"n1", "n2"}))
    return [
        builds.namespace(place),
        *builds.policies(site, place),
        builds.claim(site, place, CacheVolume(1 << 30, "fast", many=True)),
        builds.secret("w1", site, place, "token"),
        builds.pod("w1", site, place, 60),
        daemons.pod("w3", site, replace(place, daemon=Daemon("d", "dind")), 60, "docker"),
        daemons.pod("w4", site, replace(place, daemon=Daemon("s", "socket", "/run/docker.sock")), 60, ""),
        builds.pod("w2", site, replace(place, avoid=frozenset(), limits=Limits(0, 0, 0, 0, 0)), 60),
    ]


def installed_objects(version: str) -> list[dict[str, Any]]:
    values = read_values("", INSTALLED)
    return [item.object for item in documents(values.__getitem__, policy=policy_version(version))]


@pytest.mark.parametrize("version", versions())
async def test_what_is_applied_is_what_the_version_knows(version: str, tmp_path: Path) -> None:
    objects = [*app_objects(tmp_path), *build_objects(version)]
    kinds = {item["kind"] for item in objects}
    assert kinds >= {"Deployment", "StatefulSet", "Job", "Service", "Ingress", "NetworkPolicy", "Pod"}
    async with cluster(version) as (client, known):
        sent = [await as_sent(client, item) for item in objects]
    assert [text for item in sent for text in known.complaints(item)] == []


@pytest.mark.parametrize("version", versions())
async def test_what_is_printed_is_what_the_version_knows(version: str, tmp_path: Path) -> None:
    """No discovery comes between `app render`, or `install kubernetes`, and kubectl."""
    known = schemas(version)
    found = [*app_objects(tmp_path), *installed_objects(version)]
    assert [text for item in found for text in known.complaints(item)] == []


@pytest.mark.parametrize("version", [versions()[0], "v1.21", "v1.25", versions()[-1]])
def test_the_chart_is_what_the_version_knows(version: str, tmp_path: Path) -> None:
    write_chart(tmp_path / "chart")
    words = [word for flag in INSTALLED for word in ("--set", flag)]
    done = subprocess.run(
        [str(HELM), "template", "mine", str(tmp_path / "chart"), *words, "--kube-version", f"{version}.0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert {item["kind"] for item in found} >= {"Deployment", "Ingress", "PodDisruptionBudget"}
    assert [text for item in found for text in schemas(version).complaints(item)] == []


@pytest.mark.parametrize(
    ("version", "chosen"),
    [
        ("v1.20", {"policy/v1beta1", "batch/v1beta1", "autoscaling/v2beta2", "discovery.k8s.io/v1beta1"}),
        ("v1.22", {"policy/v1", "batch/v1", "autoscaling/v2beta2", "discovery.k8s.io/v1"}),
        ("v1.23", {"policy/v1", "batch/v1", "autoscaling/v2", "discovery.k8s.io/v1"}),
        (versions()[-1], {"policy/v1", "batch/v1", "autoscaling/v2", "discovery.k8s.io/v1"}),
    ],
)
async def test_kinds_that_moved_are_found_where_they_are(version: str, chosen: set[str]) -> None:
    async with cluster(version) as (client, _):
        kinds = ("PodDisruptionBudget", "CronJob", "HorizontalPodAutoscaler", "EndpointSlice")
        assert {(await client.resource(kind)).api_version for kind in kinds} == chosen


@pytest.mark.parametrize("version", [versions()[0], versions()[-1]])
def test_the_oracle_refuses_what_is_wrong(version: str) -> None:
    pod = builds.pod("w1", Site("i", "https://s", [], "m"), Place("b", "p", Limits(1, 1, 1, 1, 1)), 60)
    known = schemas(version)
    assert list(known.complaints(pod)) == []
    assert any(
        "hostUser" in text for text in known.complaints({**pod, "spec": {**pod["spec"], "hostUser": 1}})
    )
    wrong = {**pod, "spec": {**pod["spec"], "activeDeadlineSeconds": "60"}}
    assert any("activeDeadlineSeconds" in text for text in known.complaints(wrong))


def test_user_namespaces_are_asked_for_where_they_are_served() -> None:
    asking = [
        version
        for version in versions()
        if any(item.get("spec", {}).get("hostUsers") is False for item in build_objects(version))
    ]
    assert asking == [version for version in versions() if int(version.partition(".")[2]) >= 33]
