"""What a Pod's status and its events say: what it waits for, whether it gets on, what ended it."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.build.pods import waiting
from slipway.build.pods.desk import WorkerLost, WorkerRefused, WorkerUnpullable
from slipway.build.pods.starting import PULLING_SECONDS, STILL_SECONDS, UNPULLABLE_SECONDS, Start
from slipway.errors import Exhausted, Failed

SANDBOX = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox"


def status(node: str = "n1", phase: str = "Pending", waiting: str = "ContainerCreating") -> dict[str, Any]:
    containers = [{"state": {"waiting": {"reason": waiting, "message": "no such host"}}}]
    return {
        "metadata": {"name": "p"}, "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "containerStatuses": containers if node and phase == "Pending" else []},
    }  # fmt: skip


def event(reason: str, message: str = "", container: str = "worker") -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "involvedObject": {"name": "p", "fieldPath": f"spec.containers{{{container}}}"},
    }


def test_a_pod_that_has_a_node_and_does_not_get_on_is_given_up() -> None:
    start = Start()
    start.look(status(node=""), 0)
    assert start.stuck(100_000) is None, "it waits for room, which may take as long as it takes"
    start.look(status(), 1000)
    start.look(status(), 1030)
    assert start.hear([event("Scheduled"), event("FailedCreatePodSandBox", SANDBOX)], 1030) == [
        f"FailedCreatePodSandBox: {SANDBOX}"
    ]
    assert start.stuck(1000 + STILL_SECONDS) is None
    error = start.stuck(1001 + STILL_SECONDS)
    assert type(error) is WorkerLost
    assert error.message.startswith(
        "the worker has not started, and nothing went on for 60 s: FailedCreatePod"
    )
    assert start.node == "n1"
    start.look(status(phase="Running"), 1002 + STILL_SECONDS)
    assert start.stuck(100_000) is None, "it runs"


def test_each_step_gives_it_time_but_once() -> None:
    start = Start()
    start.look(status(), 0)
    start.hear([event("Pulling")], 50)
    assert start.stuck(50 + PULLING_SECONDS) is None, "an image may be large"
    assert start.stuck(51 + PULLING_SECONDS) is not None, "but not for ever"
    start.hear([event("Pulling"), event("Pulled")], 400)
    assert start.stuck(400 + STILL_SECONDS) is None
    start.look(status(waiting="CreateContainerError"), 410)
    start.hear([event("Pulled", "again, since it is tried again"), event("Failed", "no")], 450)
    error = start.stuck(401 + STILL_SECONDS)
    assert error is not None
    assert "the worker cannot be started on n1: CreateContainerError: no such host" in error.message
    start.hear([event("Pulling", container="docker")], 480)
    assert start.stuck(480 + STILL_SECONDS + 1) is None, "the other container's image is on its way"


def test_without_its_events_a_pod_gets_the_longer_time() -> None:
    start = Start()
    start.look(status(), 0)
    assert start.stuck(STILL_SECONDS + 1, heard=False) is None
    assert start.stuck(PULLING_SECONDS + 1, heard=False) is not None


def test_an_image_that_cannot_be_pulled_is_told_apart() -> None:
    start = Start()
    start.look(status(), 0)
    start.hear([event("Pulling")], 1)
    start.look(status(waiting="ErrImagePull"), 10)
    start.look(status(waiting="ImagePullBackOff"), 20)
    assert start.stuck(10 + UNPULLABLE_SECONDS) is None
    error = start.stuck(11 + UNPULLABLE_SECONDS)
    assert type(error) is WorkerUnpullable
    assert error.message == "the worker's image cannot be pulled on n1: no such host"
    start.look(status(), 21)
    assert start.stuck(11 + UNPULLABLE_SECONDS) is None


def pod(**status: object) -> dict[str, object]:
    return {"metadata": {"name": "p"}, "spec": {"nodeName": "n1"}, "status": status}


def container(**state: object) -> list[dict[str, object]]:
    return [{"state": state}]


def test_what_a_pod_waits_for_is_said() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes: cpu",
    }
    assert waiting.waits_for(pod(conditions=[condition])) == "no node has room: 0/3 nodes: cpu"
    pull = pod(containerStatuses=container(waiting={"reason": "ErrImagePull", "message": "no such host"}))
    assert waiting.waits_for(pull) == "the worker's image cannot be pulled on n1: no such host"
    assert waiting.is_unpullable(pull)
    usual = pod(containerStatuses=container(waiting={"reason": "ContainerCreating"}))
    assert waiting.waits_for(usual) == ""
    assert waiting.ended_by(usual) is None


# What the kubelet says, word for word: of releases until 1.26, of later ones, and of a Pod's own limits.
OLD_PRESSURE = (
    "The node was low on resource: ephemeral-storage. Container worker was using 1586092Ki, which exceeds its request "
    "of 1Gi. "
)
PRESSURE = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 1073741824, available: 104Ki. "
    "Container worker was using 2Gi, request is 1Gi, has larger consumption of ephemeral-storage. "
)
POD_LIMIT = "Pod ephemeral local storage usage exceeds the total limit of containers 2Gi. "
CONTAINER_LIMIT = 'Container worker exceeded its local ephemeral storage limit "2Gi". '
VOLUME_LIMIT = 'Usage of EmptyDir volume "work" exceeds the limit "2Gi". '


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        ({"reason": "DeadlineExceeded", "phase": "Failed"}, Exhausted, "limit of time"),
        ({"reason": "Evicted", "message": PRESSURE}, WorkerLost, "Evicted: The node was low on resource: ephem"),
        ({"reason": "Evicted", "message": OLD_PRESSURE}, WorkerLost, "Evicted: The node was low on resource"),
        ({"reason": "Evicted", "message": "The node had condition: [DiskPressure]. "}, WorkerLost, "DiskPressure"),
        ({"reason": "Evicted", "message": POD_LIMIT}, Exhausted, "limit of disk"),
        ({"reason": "Evicted", "message": CONTAINER_LIMIT}, Exhausted, "limit of disk"),
        ({"reason": "Evicted", "message": VOLUME_LIMIT}, Exhausted, "limit of disk"),
        ({"reason": "NodeLost"}, WorkerLost, "NodeLost"),
        ({"containerStatuses": container(terminated={"reason": "OOMKilled", "exitCode": 137})}, Exhausted, "memory"),
        ({"containerStatuses": container(terminated={"reason": "Error", "exitCode": 137})}, WorkerLost, "killed"),
        ({"containerStatuses": container(terminated={"reason": "StartError", "exitCode": 128})}, WorkerLost, "n1"),
        ({"containerStatuses": container(terminated={"message": "no user ns", "exitCode": 1})}, Failed, "no user ns"),
        ({"containerStatuses": container(terminated={"message": "refused", "exitCode": 4})}, WorkerRefused, "refused"),
        ({"phase": "Failed"}, WorkerLost, "has ended"),
    ],
)  # fmt: skip
def test_what_ended_a_pod_is_told_apart(status: dict[str, object], kind: type[Exception], text: str) -> None:
    error = waiting.ended_by(pod(**status))
    assert type(error) is kind
    assert text in error.message
