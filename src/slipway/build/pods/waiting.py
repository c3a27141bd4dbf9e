"""What a Pod's status says: what it waits for, and what ended it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slipway.build.pods.desk import WorkerLost, WorkerRefused
from slipway.build.pods.forms import HUNG_UP, REFUSED
from slipway.errors import Exhausted, Failed, SlipwayError

Pod = Mapping[str, Any]
DAEMON = "docker"
"""The name of a daemon's container, beside the worker's."""
_PULLING = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "ErrImageNeverPull",
)
_OWN_DISK = (
    "ephemeral local storage usage exceeds",
    "exceeded its local ephemeral storage limit",
    "Usage of EmptyDir volume",
)
"""What the kubelet says of a Pod that is above its limits. Other evictions are for a node that lacks something."""
_NOT_BEGUN = ("StartError", "ContainerCannotRun")


def node_of(pod: Pod) -> str:
    return str(pod.get("spec", {}).get("nodeName") or "")


def waits_for(pod: Pod) -> str:
    """One line for the build's log, or nothing when it runs or is about to."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node has room: {condition.get('message') or condition.get('reason') or ''}".strip()
    for waiting in _waiting(status):
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in _PULLING:
            return f"the worker's image cannot be pulled on {node_of(pod)}: {message or reason}"
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return f"the worker cannot be started on {node_of(pod)}: {reason}: {message}"
    return ""


def is_unpullable(pod: Pod) -> bool:
    return any(str(item.get("reason")) in _PULLING for item in _waiting(pod.get("status", {})))


def unmountable(event: Mapping[str, Any], node: str) -> SlipwayError | None:
    """Why a volume will never be there, if an event says so: a socket of a daemon that the node has not."""
    message = str(event.get("message") or "")
    if "hostPath type check failed" not in message:
        return None
    path = re.search(r"type check failed: (\S+)", message)
    return Failed(
        f"the node {node} has no Docker daemon: there is no socket at {path[1] if path else 'its path'}",
        hint="its containers are run by something else; take a builder of kind dind or remote, or none",
    )


def ended_by(pod: Pod) -> SlipwayError | None:
    """What ended a Pod from outside, or why its worker ended by itself; ``None`` while it goes on."""
    status = pod.get("status", {})
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    node = node_of(pod)
    if reason == "DeadlineExceeded":
        return Exhausted("the build took longer than its limit of time", hint="raise build.seconds")
    if reason == "Evicted" and any(text in message for text in _OWN_DISK):
        return Exhausted(f"the build wrote more than its limit of disk: {message}", hint="raise build.disk")
    if reason in ("Evicted", "NodeLost", "Shutdown", "Terminated", "Preempting", "UnexpectedAdmissionError"):
        return WorkerLost(f"the Pod was ended by {node}: {reason}: {message}")
    if reason in ("NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods"):
        return WorkerLost(f"the node {node} has no room for it: {message}")
    for item in status.get("containerStatuses") or ():
        ended = (item.get("state") or {}).get("terminated")
        if ended is None:
            continue
        if ended.get("reason") == "OOMKilled":
            return Exhausted(
                "killed: out of memory, the limit of the build's Pod",
                hint="raise build.memory, or let steps use less",
            )
        code = ended.get("exitCode")
        if item.get("name") == DAEMON:
            said = str(ended.get("message") or ended.get("reason") or "").strip()
            return Failed(
                f"the Docker daemon beside the worker ended with {code}: {said[-500:]}",
                hint="is the builder's image one with dockerd in it? is a privileged container allowed there?",
            )
        if code in (HUNG_UP, REFUSED):
            said = str(ended.get("message") or ended.get("reason") or "").strip()
            kind = WorkerRefused if code == REFUSED else WorkerLost
            return kind(f"the worker could not go on: {said}")
        if ended.get("reason") in _NOT_BEGUN:
            return WorkerLost(f"the worker could not be started on {node}: {ended.get('message') or ''}")
        if code in (137, 143):
            return WorkerLost(f"the worker was killed on {node} ({ended.get('reason')}, exit code {code})")
        return Failed(
            f"the worker ended with {code} on {node}: {ended.get('message') or ended.get('reason')}"
        )
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return WorkerLost("the Pod was deleted" + (f" from {node}" if node else ""))
    if status.get("phase") in ("Failed", "Succeeded"):
        return WorkerLost(f"the Pod has ended: {reason} {message}".rstrip())
    return None


def _waiting(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    states = [item.get("state") or {} for item in status.get("containerStatuses") or ()]
    return [state["waiting"] for state in states if state.get("waiting")]
