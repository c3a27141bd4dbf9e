"""What is written, and what is left alone, whatever the API server refuses and others have made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from slipway.base.progress import silent
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.objects import Object, by_key
from slipway.engines.kubernetes.observed import Observed
from slipway.engines.kubernetes.ownership import take_namespace
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.record import Holding, Record
from slipway.engines.kubernetes.writing import Writer
from slipway.errors import Conflict, Invalid
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.testing.api_server import ApiServer, api_server, listing, status

SPACE = "slipway-demo"
PATHS = {
    "Deployment": f"/apis/apps/v1/namespaces/{SPACE}/deployments",
    "StatefulSet": f"/apis/apps/v1/namespaces/{SPACE}/statefulsets",
    "Service": f"/api/v1/namespaces/{SPACE}/services",
    "ConfigMap": f"/api/v1/namespaces/{SPACE}/configmaps",
}
EXISTS = status(409, "AlreadyExists", "it exists already")
GONE = status(404, "NotFound", "not found")


def obj(kind: str, *, ours: bool = True, **metadata: Any) -> Object:
    labels = names.object_labels(AppRef("demo", "shop"), "1") if ours else {"app": "theirs"}
    return {
        "kind": kind, "apiVersion": "apps/v1" if "apps" in PATHS[kind] else "v1",
        "metadata": {"name": "web", "namespace": SPACE, "labels": labels, **metadata},
    }  # fmt: skip


def there(kind: str, uid: str = "old", **more: Any) -> Object:
    return obj(kind, uid=uid, resourceVersion="7", **more)


def refused(*fields: str, message: str = "field is immutable", code: int = 422) -> tuple[int, Any]:
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field} for field in fields]
    return status(code, "Invalid", message, causes=causes)


@dataclass
class Desk:
    server: ApiServer
    client: PatientClient

    def writer(self, *seen: Object) -> Writer:
        return Writer(self.client, Holding(Record(SPACE, move=1)), Observed(by_key(seen)))

    def answers(self, kind: str, **answers: list[Any]) -> None:
        for method, given in answers.items():
            path = PATHS[kind] + ("" if method == "POST" else "/web")
            self.server.answers[f"{method} {path}"] = given

    def methods(self) -> list[str]:
        return [item.method for item in self.server.asked if "/namespaces/" in item.path]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with api_server() as server, ClusterClient(read_kubeconfig(server.kubeconfig())) as client:
        yield Desk(server, PatientClient(client, silent, 0))


@pytest.mark.parametrize(
    "refusal",
    [
        status(422, "Invalid", "images must use immutable tags", causes=[{"message": "use immutable tags"}]),
        status(400, "", "admission webhook denied the request: tags that may change are forbidden"),
        refused("spec.template.spec.containers[0].image", message="must be immutable"),
        refused("spec.selector"),
    ],
)
async def test_a_policys_refusal_ends_nothing(desk: Desk, refusal: Any) -> None:
    desk.answers("Deployment", PATCH=[refusal], DELETE=[(200, {})])
    with pytest.raises(Invalid):
        await desk.writer(there("Deployment")).apply(obj("Deployment"))
    assert desk.methods() == ["PATCH"]


@pytest.mark.parametrize(
    ("kind", "field", "propagation"),
    [
        ("Service", "spec.clusterIPs[0]", "Background"),
        ("StatefulSet", "spec", "Orphan"),
        ("ConfigMap", "data", "Background"),
    ],
)
async def test_what_never_changes_is_replaced(desk: Desk, kind: str, field: str, propagation: str) -> None:
    desk.answers(
        kind, PATCH=[refused(field), (201, there(kind, "new"))], POST=[EXISTS], DELETE=[(200, {})],
        GET=[(200, there(kind)), GONE],
    )  # fmt: skip
    made = await desk.writer(there(kind)).apply(obj(kind))
    assert made["metadata"]["uid"] == "new"
    assert desk.methods() == ["PATCH", "POST", "DELETE", "GET", "GET", "GET", "PATCH"]
    created, deleted = (item for item in desk.server.asked if item.method in ("POST", "DELETE"))
    assert created.query["dryRun"] == "All"
    options = await deleted.json()
    assert (options["preconditions"], options["propagationPolicy"]) == ({"uid": "old"}, propagation)
    assert "resourceVersion" not in (await desk.server.asked[-1].json())["metadata"]


async def test_a_service_that_the_cluster_leaves_without_an_address_is_replaced(desk: Desk) -> None:
    without = {**there("Service"), "spec": {"clusterIP": "None"}}
    wanted = {**obj("Service"), "spec": {"ports": [{"name": "p1", "port": 1}]}}
    desk.answers(
        "Service", PATCH=[(200, {**without, **wanted["spec"]}), (201, there("Service", "new"))], POST=[EXISTS],
        DELETE=[(200, {})], GET=[GONE],
    )  # fmt: skip
    made = await desk.writer(without).apply(wanted)
    assert made["metadata"]["uid"] == "new"
    assert desk.methods() == ["PATCH", "POST", "DELETE", "GET", "GET", "PATCH"]


async def test_what_somebody_took_away_meanwhile_is_made_again(desk: Desk) -> None:
    gone = status(500, "", "resourceVersion should not be set on objects to be created")
    desk.answers("ConfigMap", PATCH=[gone, (201, there("ConfigMap", "new"))], GET=[GONE])
    made = await desk.writer(there("ConfigMap")).apply(obj("ConfigMap"))
    assert made["metadata"]["uid"] == "new"
    assert desk.methods() == ["PATCH", "GET", "GET", "PATCH"]


async def test_it_is_not_replaced_by_what_the_cluster_would_not_take(desk: Desk) -> None:
    policy = status(403, "Forbidden", "services need an owner")
    desk.answers("Service", PATCH=[refused("spec.clusterIP")], POST=[policy], DELETE=[(200, {})])
    with pytest.raises(Exception, match="services need an owner"):
        await desk.writer(there("Service")).apply(obj("Service"))
    assert desk.methods() == ["PATCH", "POST"]


async def test_what_somebody_else_made_is_left_alone(desk: Desk) -> None:
    desk.answers("ConfigMap", GET=[(200, there("ConfigMap", ours=False))], PATCH=[(200, {})])
    writer = desk.writer()
    with pytest.raises(Conflict, match="somebody else made") as caught:
        await writer.apply(obj("ConfigMap"))
    assert "label --overwrite -n slipway-demo configmap web app.kubernetes.io/managed-by=slipway" in (
        caught.value.hint
    )
    assert desk.methods() == ["GET"]
    assert not writer.seen, "nor is it pruned"


async def test_what_is_ours_and_was_not_seen_is_written_as_it_is_now(desk: Desk) -> None:
    desk.answers("ConfigMap", GET=[(200, there("ConfigMap"))], PATCH=[(200, there("ConfigMap"))])
    await desk.writer().apply(obj("ConfigMap"))
    assert (await desk.server.asked[-1].json())["metadata"]["resourceVersion"] == "7"


async def test_what_became_somebody_elses_meanwhile_is_left_alone(desk: Desk) -> None:
    changed = status(409, "Conflict", "the object has been modified")
    desk.answers("ConfigMap", PATCH=[changed], GET=[(200, there("ConfigMap", ours=False))])
    with pytest.raises(Conflict, match="somebody else made"):
        await desk.writer(there("ConfigMap")).apply(obj("ConfigMap"))
    assert desk.methods() == ["PATCH", "GET"]


def empty(server: ApiServer) -> None:
    for path in (f"/api/v1/namespaces/{SPACE}/pods", f"/apis/batch/v1/namespaces/{SPACE}/jobs"):
        server.answers[f"GET {path}"] = [listing(1)]
    for kind in ("Deployment", "StatefulSet"):
        server.answers[f"GET {PATHS[kind]}"] = [listing(1)]


async def test_a_namespace_is_made_or_taken_when_nothing_runs_in_it(desk: Desk) -> None:
    whole = f"/api/v1/namespaces/{SPACE}"
    desk.server.answers[f"PATCH {whole}"] = [(200, {})]
    await take_namespace(desk.client, "demo", SPACE)
    empty(desk.server)
    desk.server.answers[f"GET {whole}"] = [(200, {"kind": "Namespace", "metadata": {"name": SPACE}})]
    await take_namespace(desk.client, "demo", SPACE)
    assert desk.server.paths().count(f"PATCH {whole}") == 2
    desk.server.answers[f"GET {PATHS['Deployment']}"] = [listing(1, there("Deployment", ours=False))]
    with pytest.raises(Conflict, match="in use by somebody else") as caught:
        await take_namespace(desk.client, "demo", SPACE)
    assert f"kubectl label namespace {SPACE} slipway/project=demo" in caught.value.hint
    assert desk.server.paths().count(f"PATCH {whole}") == 2


@pytest.mark.parametrize("project", ["demo", "other"])
async def test_a_namespace_is_whose_label_it_has(desk: Desk, project: str) -> None:
    labelled = {"kind": "Namespace", "metadata": {"name": SPACE, "labels": {names.PROJECT: "demo"}}}
    desk.server.answers[f"GET /api/v1/namespaces/{SPACE}"] = [(200, labelled)]
    if project == "demo":
        await take_namespace(desk.client, project, SPACE)
    else:
        with pytest.raises(Conflict, match="that of the project 'demo'"):
            await take_namespace(desk.client, project, SPACE)
    assert not [item for item in desk.server.asked if item.method == "PATCH"]
