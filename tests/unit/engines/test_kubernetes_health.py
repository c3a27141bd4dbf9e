"""How a workload is doing, from what API servers say; and what differs from what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.health import judge, refused
from slipway.engines.kubernetes.objects import by_key, contains, difference


def workload(kind: str = "Deployment", **status: Any) -> dict[str, Any]:
    annotations = {names.CONFIG: "c"}
    spec: dict[str, Any] = {"replicas": 1, "template": {"metadata": {"annotations": annotations}}}
    status.setdefault("observedGeneration", 2)
    return {"kind": kind, "metadata": {"name": "shop-web", "generation": 2}, "spec": spec, "status": status}


def pod(config: str = "c", restarts: int = 0, **more: Any) -> dict[str, Any]:
    state: dict[str, Any] = {key: more.pop(key) for key in ("state", "lastState") if key in more}
    container: dict[str, Any] = {"name": "web", "image": "web:1", "restartCount": restarts, **state}
    limits = {"resources": {"limits": {"memory": "64Mi"}}}
    return {
        "metadata": {"name": "p1", "annotations": {names.CONFIG: config}},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "web", **limits}]},
        "status": {"containerStatuses": [container], **more},
    }  # fmt: skip


ALL: dict[str, Any] = {"updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}
ENDED = {"terminated": {"exitCode": 3}}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (workload(**ALL), "ready"),
        (workload(**{**ALL, "replicas": 2}), "waiting"),
        (workload(**ALL, observedGeneration=1), "waiting"),
        (
            workload("StatefulSet", updateRevision="b", currentRevision="a", readyReplicas=1, replicas=1),
            "waiting",
        ),
        (
            workload("StatefulSet", updateRevision="b", currentRevision="b", readyReplicas=1, replicas=1),
            "ready",
        ),
        (workload("Job", conditions=[{"type": "Complete", "status": "True"}]), "ready"),
        (workload("Job", active=1), "waiting"),
        (workload("Job", conditions=[{"type": "Failed", "status": "True", "message": "deadline"}]), "failed"),
    ],
)
def test_states(found: dict[str, Any], state: str) -> None:
    assert judge(found, []).state == state


QUOTA = 'pods "x" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1'


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


KILLED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
UNSCHEDULABLE = {"type": "PodScheduled", "reason": "Unschedulable", "message": "0/3 nodes", "status": "False"}


@pytest.mark.parametrize(
    ("there", "state", "reason"),
    [
        (pod(state=waiting("ImagePullBackOff", "asks again")), "stuck", "cannot be pulled: asks again"),
        (
            pod(state=waiting("ErrImagePull", "web:1: not found")),
            "failed",
            "cannot be pulled: web:1: not found",
        ),
        (pod(state=waiting("InvalidImageName")), "failed", "cannot be pulled: web:1"),
        (pod(restarts=1, lastState=ENDED), "waiting", "ended with exit code 3"),
        (pod(restarts=2, lastState=ENDED), "failed", "ended with exit code 3"),
        (pod(restarts=1, lastState=ENDED, state=waiting("CrashLoopBackOff")), "failed", "exit code 3"),
        (pod(restarts=2, lastState=KILLED), "failed", "memory limit of 64Mi"),
        (pod(state=waiting("CreateContainerConfigError", "no key")), "failed", "no key"),
        (pod(conditions=[UNSCHEDULABLE]), "stuck", "finds no node to run on: 0/3 nodes"),
        (pod(reason="Evicted", message="low on disk"), "waiting", "was evicted from its node: low on disk"),
        (pod("old", restarts=9, lastState=ENDED), "waiting", "is not ready"),
    ],
)
def test_troubles_of_a_pod(there: dict[str, Any], state: str, reason: str) -> None:
    verdict = judge(workload(), [there])
    assert verdict.state == state
    assert reason in verdict.reason


def test_a_pod_that_is_evicted_again_and_again() -> None:
    evicted = pod(reason="Evicted", message="low on disk")
    assert judge(workload(), [evicted] * 3).state == "failed"


def test_a_quota_stands_in_the_way() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": QUOTA}
    verdict = judge(workload(conditions=[condition]), [])
    assert (verdict.state, verdict.quota) == ("stuck", True)
    assert "small, requested" in verdict.reason
    assert not refused("denied by a webhook").quota


WANTED = names.stamped(
    {"kind": "Service", "metadata": {"name": "web", "namespace": "n"},
     "spec": {"selector": {"a": "b"}, "ports": [{"name": "p1", "port": 1}, {"name": "p2", "port": 2}]}}
)  # fmt: skip


def there(**spec: Any) -> dict[str, Any]:
    found = {**WANTED["spec"], "clusterIP": "10.0.0.1", **spec}
    return {**WANTED, "metadata": {**WANTED["metadata"], "uid": "u", "labels": {}}, "spec": found}


def test_what_others_added_is_no_difference() -> None:
    more = [
        {"name": "p2", "port": 2, "protocol": "TCP"},
        {"name": "p1", "port": 1},
        {"name": "other", "port": 3},
    ]
    assert difference([WANTED], by_key([there(ports=more)])).none


@pytest.mark.parametrize(
    "changed",
    [{"selector": {"a": "c"}}, {"ports": [{"name": "p1", "port": 1}]}, {"selector": None}, {"ports": "x"}],
)
def test_what_others_changed_is(changed: dict[str, Any]) -> None:
    assert difference([WANTED], by_key([there(**changed)])).apply == (WANTED,)


def test_a_service_without_the_address_that_it_is_to_have_is_not_as_wanted() -> None:
    assert difference([WANTED], by_key([there(clusterIP="None")])).apply == (WANTED,)
    headless = names.stamped({**WANTED, "spec": {"clusterIP": "None"}})
    assert difference([headless], by_key([{**headless, "spec": {"clusterIP": "None"}}])).none


def test_volumes_are_never_among_what_goes() -> None:
    stray = {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "a", "namespace": "n"}}
    leaving = {"kind": "Secret", "metadata": {"name": "a", "namespace": "n", "deletionTimestamp": "now"}}
    found = difference([], by_key([stray, claim, leaving]))
    assert found.prune == (stray,)
    assert found.describe() == "remove ConfigMap a"


@pytest.mark.parametrize(
    ("is_there", "wanted", "same"),
    [
        ({"a": None}, {"a": {}}, True),
        ({}, {"a": []}, True),
        ([1, 2], [1], False),
        (["x"], ["x"], True),
        (1, "1", False),
    ],
)
def test_contains(is_there: Any, wanted: Any, same: bool) -> None:
    assert contains(is_there, wanted) is same
