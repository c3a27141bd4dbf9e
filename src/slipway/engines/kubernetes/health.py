"""How a workload is doing, in words. Pure: from what the API server says of it and of its Pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway.engines.kubernetes import names

Object = dict[str, Any]
_NEVER_PULLED = {"InvalidImageName", "ErrImageNeverPull"}
_NOT_PULLED = {"ImagePullBackOff", "ErrImagePull", "RegistryUnavailable"}
_NOT_THERE = ("not found", "manifest unknown", "no such host")
_NOT_MADE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
CANNOT_PULL = "has an image that cannot be pulled"
_OFTEN = 2
_EVICTIONS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """``stuck``: may go on some day by itself, e.g. when a machine is added. ``failed``: nothing good will come.

    ``quota``: it is the quota of the namespace that stands in the way. ``pod``: whose log tells more.
    """

    state: Literal["ready", "waiting", "stuck", "failed"]
    reason: str = ""
    pod: str = ""
    quota: bool = False


def judge(workload: Object, pods: Sequence[Object]) -> Verdict:
    """``pods``: the workload's; those of an earlier template do not count, except that they may still be there."""
    if settled(workload):
        return Verdict("ready")
    mine = [pod for pod in pods if is_current(workload, pod)]
    if workload["kind"] == "Job":
        for condition in _conditions(workload):
            if condition["type"] == "Failed":
                return _failed_job(condition, mine)
    found = [verdict for pod in mine for verdict in _troubles(pod)]
    for state in ("failed", "stuck"):
        for verdict in found:
            if verdict.state == state:
                return verdict
    evicted = [verdict for verdict in found if "evicted" in verdict.reason]
    if len(evicted) >= _EVICTIONS:
        return Verdict("failed", evicted[0].reason, evicted[0].pod)
    for condition in _conditions(workload):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return refused(condition.get("message", ""))
    return (
        found[0] if found else Verdict("waiting", "is not ready", mine[0]["metadata"]["name"] if mine else "")
    )


def refused(message: str) -> Verdict:
    """A Pod that the API server did not take, by its words."""
    if "exceeded quota" in message:
        return Verdict(
            "stuck", f"has no room in its quota: {message.partition('exceeded quota: ')[2]}", quota=True
        )
    return Verdict("stuck", f"could not be started: {message}")


def settled(workload: Object) -> bool:
    """Whether it has become what its specification says. A Job: whether it has completed."""
    status, spec = workload.get("status", {}), workload["spec"]
    if workload["kind"] == "Job":
        return any(item["type"] == "Complete" and item["status"] == "True" for item in _conditions(workload))
    if status.get("observedGeneration", 0) < workload["metadata"].get("generation", 0):
        return False
    count = spec.get("replicas", 1)
    if workload["kind"] == "StatefulSet":
        updated = status.get("updateRevision") == status.get("currentRevision") or (
            status.get("updatedReplicas", 0) >= count
        )
        return bool(updated and status.get("readyReplicas", 0) == count == status.get("replicas", 0))
    return bool(
        status.get("updatedReplicas", 0) == count
        and status.get("replicas", 0) == count
        and status.get("availableReplicas", 0) == count
    )


def is_current(workload: Object, pod: Object) -> bool:
    """Whether the Pod was made from the workload's present template, as far as we wrote it."""
    template = workload["spec"]["template"]["metadata"].get("annotations", {})
    ours = pod["metadata"].get("annotations", {})
    return all(template.get(key) == ours.get(key) for key in (names.CONFIG, names.RESTARTED))


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _conditions(obj: Object) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = obj.get("status", {}).get("conditions") or ()
    return found


def _failed_job(condition: Mapping[str, Any], pods: Sequence[Object]) -> Verdict:
    for pod in pods:
        for verdict in _troubles(pod):
            return Verdict("failed", f"did not complete: {verdict.reason}", pod["metadata"]["name"])
    return Verdict("failed", f"did not complete: {condition.get('message', '')}")


def _troubles(pod: Object) -> Iterator[Verdict]:
    """What keeps the Pod from getting ready."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("reason") == "Evicted":
        yield Verdict("waiting", f"was evicted from its node: {status.get('message', '')}", name)
        return
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            yield Verdict("stuck", f"finds no node to run on: {condition.get('message', '')}", name)
    for container in status.get("containerStatuses") or ():
        waiting = container.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _NEVER_PULLED | _NOT_PULLED:
            # What is not there stays away; a registry or a node that had a bad moment is asked again.
            sure = reason in _NEVER_PULLED or any(words in message for words in _NOT_THERE)
            said = f"{CANNOT_PULL}: {message or container['image']}"
            yield Verdict("failed" if sure else "stuck", said, name)
        elif reason in _NOT_MADE:
            yield Verdict("failed", f"cannot be started: {message}", name)
        elif ended := _ended(pod, container):
            again = container.get("restartCount", 0) >= _OFTEN or reason == "CrashLoopBackOff"
            yield Verdict("failed" if again else "waiting", ended, name)


def _ended(pod: Object, container: Mapping[str, Any]) -> str:
    """How the container's last run ended, if it did."""
    for state in (container.get("state", {}), container.get("lastState", {})):
        ended = state.get("terminated")
        if ended is None:
            continue
        if ended.get("reason") == "OOMKilled":
            return f"was killed: it took more than its memory limit{_limit(pod, container['name'])}"
        if ended.get("exitCode") or pod["spec"].get("restartPolicy") == "Always":
            why = f" ({ended['message'].strip()[:500]})" if ended.get("message") else ""
            return f"ended with exit code {ended.get('exitCode')}{why}"
    return ""


def _limit(pod: Object, container: str) -> str:
    for item in pod["spec"]["containers"]:
        if item["name"] == container:
            found = item.get("resources", {}).get("limits", {}).get("memory")
            return f" of {found}" if found else ""
    return ""
