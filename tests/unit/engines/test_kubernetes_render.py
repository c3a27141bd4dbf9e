"""What each key of a Compose file becomes, and what is refused at its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.base.clock import now
from slipway.compose import ComposeError, Project, load
from slipway.delivery.engine import AppRef, Wanted
from slipway.delivery.releases import Release
from slipway.engines.kubernetes import Setting, manifests, refusals
from slipway.engines.kubernetes.quantities import memory, processors
from slipway.errors import Invalid

APP = AppRef("demo", "shop")
DIGEST = "sha256:" + "0" * 64
TEXT = """\
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
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.5", memory: 256m}, reservations: {memory: 64m}}
      update_config: {order: stop-first}
    networks: {front: , back: {aliases: [api]}}
    configs: [{source: site, target: /etc/site}]
    secrets: [key]
  db:
    image: db
    volumes: ["data:/data", /cache]
    networks: [back]
    restart: always
  migrate:
    image: web
    restart: on-failure:3
    networks: [back]
volumes: {data: {x-slipway: {size: 10g}}}
networks: {front: , back: {internal: true}}
configs: {site: {content: hello}}
secrets: {key: {environment: KEY}}
"""


def model_of(directory: Path, text: str = TEXT) -> Project:
    (directory / "compose.yaml").write_text(text)
    return load(directory, name="shop", variables={"KEY": "s3cret"}, refuse=refusals)


def rendered(model: Project, **setting: Any) -> dict[tuple[str, str], dict[str, Any]]:
    images = {name: {"reference": f"demo/shop-{name}:1", "digest": DIGEST} for name in model.services}
    release = Release(4, model, images, "d", "active", now(), "ada")
    found = manifests(APP, Wanted(release), Setting("registry:5000", "apps.example", **setting))
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


@pytest.fixture
def found(tmp_path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return rendered(model_of(tmp_path), pull_secret="pull", storage_class="fast", ingress_class="nginx")


def test_kinds(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    kinds = sorted(f"{kind} {name.partition('-')[0]}" for kind, name in found if kind != "NetworkPolicy")
    assert kinds == [
        "ConfigMap shop", "Deployment shop", "Ingress shop", "Job shop", "PersistentVolumeClaim shop",
        "Secret shop", "Service api", "Service db", "Service web", "StatefulSet shop",
    ]  # fmt: skip
    assert all(item["metadata"]["namespace"] == "slipway-demo" for item in found.values())


def test_a_deployment(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    made = found["Deployment", "shop-web"]
    assert made["metadata"]["labels"]["app.kubernetes.io/version"] == "4"
    spec = made["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "app.kubernetes.io/version" not in spec["template"]["metadata"]["labels"]
    pod = spec["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 33
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["hostname"] == "front"
    assert pod["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}]
    security = {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 2000}
    assert security.items() <= pod["securityContext"].items()
    (container,) = pod["containers"]
    assert container["image"] == f"registry:5000/demo/shop-web@{DIGEST}"
    assert (container["command"], container["args"]) == (["/init"], ["serve", "$$HOME"])
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "$$(A)"}]
    assert [port["containerPort"] for port in container["ports"]] == [8000, 9000, 7000]
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
    }  # fmt: skip
    probe = container["readinessProbe"]
    assert probe["exec"]["command"] == ["/bin/sh", "-c", "curl -f localhost"]
    assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == (5, 2, 12)
    assert "livenessProbe" not in container
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts.keys() == {"/scratch", "/dev/shm", "/etc/site", "/run/secrets/key"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}
    config = volumes[mounts["/etc/site"]["name"]]["configMap"]["name"]
    assert found["ConfigMap", config]["data"] == {"content": "hello"}


def test_a_store_and_a_job(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    spec = found["StatefulSet", "shop-db"]["spec"]
    assert spec["serviceName"] == "db"
    (volume,) = spec["template"]["spec"]["volumes"]
    claim = found["PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "10Gi")
    assert found["Service", "db"]["spec"]["clusterIP"] == "None"
    (job,) = (item for (kind, _), item in found.items() if kind == "Job")
    assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (3, "Never")


def test_names_and_hosts(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    web = found["Service", "web"]["spec"]
    assert [port["port"] for port in web["ports"]] == [8000, 9000, 7000]
    assert "clusterIP" not in web
    labels = found["Deployment", "shop-web"]["spec"]["template"]["metadata"]["labels"]
    for name in ("web", "api"):
        assert found["Service", name]["spec"]["selector"].items() <= labels.items()
    ingress = found["Ingress", "shop-web"]["spec"]
    assert ingress["ingressClassName"] == "nginx"
    ports = {
        rule["host"]: rule["http"]["paths"][0]["backend"]["service"]["port"]["number"]
        for rule in ingress["rules"]
    }
    assert ports == {"web.shop.demo.apps.example": 8000, "9000.web.shop.demo.apps.example": 9000}


def test_networks(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    policies = {name: item["spec"] for (kind, name), item in found.items() if kind == "NetworkPolicy"}
    labels = found["Deployment", "shop-web"]["spec"]["template"]["metadata"]["labels"]
    for name in ("shop-front", "shop-back"):
        spec = policies[name]
        chosen = spec["podSelector"]["matchLabels"]
        assert chosen.items() <= labels.items()
        assert spec["ingress"] == [{"from": [{"podSelector": {"matchLabels": chosen}}]}]
    published = [spec["ingress"][0]["ports"] for name, spec in policies.items() if "published" in name]
    assert [[port["port"] for port in ports] for ports in published] == [[8000, 9000]]
    internal = [name for name in policies if "internal" in name]
    assert len(internal) == 2, "db and migrate are on internal networks only"


def test_the_same_twice_and_another_text_for_another_release(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    assert rendered(model) == rendered(model)
    other = rendered(model_of(tmp_path, TEXT.replace("content: hello", "content: bye")))
    names = {key for key in rendered(model).keys() ^ other.keys() if key[0] == "ConfigMap"}
    assert len(names) == 2


REFUSED = {
    "user: app": r":4:5: services.web.user cannot be had on Kubernetes by name: 'app'",
    "pids_limit: 5": r":4:5: services.web.pids_limit cannot",
    "deploy: {resources: {limits: {pids: 5}}}": r":4:35: services.web.pids_limit cannot",
    "stop_signal: SIGINT": r":4:5: services.web.stop_signal cannot.*",
    "hostname: a.b": r":4:5: services.web.hostname cannot",
    "extra_hosts: [a=host-gateway]": r":4:5: services.web.extra_hosts cannot.*a=host-gateway",
    "networks: {default: {aliases: [a.b]}}": r":4:5: services.web.networks cannot.*alias 'a.b'",
    "networks: {default: {aliases: [other_1]}}": r"not an alias",
}


@pytest.mark.parametrize(("line", "message"), REFUSED.items())
def test_what_cannot_be_done_is_refused_at_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ComposeError, match=message):
        model_of(tmp_path, f"services:\n  web:\n    image: a\n    {line}\n")


def test_a_name_that_others_could_not_use(tmp_path: Path) -> None:
    with pytest.raises(ComposeError, match=r":2:3: services.my_web is no name"):
        model_of(tmp_path, "services:\n  my_web:\n    image: a\n")
    (tmp_path / "compose.yaml").write_text("services: {my_web: {image: a}}")
    with pytest.raises(Invalid, match=r"services\.my_web is no name"):
        rendered(load(tmp_path))


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1024, "1Ki"),
        (1 << 30, "1Gi"),
        (3 << 29, "1536Mi"),
        (1000, "1k"),
        (1_500_000, "1500k"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert memory(size) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(1, "1"), (0.5, "500m"), (0.0001, "1m"), (1.5, "1500m"), (2.0, "2"), (0.1, "100m")]
)
def test_processors(amount: float, text: str) -> None:
    assert processors(amount) == text
