"""Names and labels that Kubernetes takes, distinct for distinct things."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from slipway.delivery.engine import AppRef

LABEL = "slipway/"
PROJECT, APP, SERVICE = f"{LABEL}project", f"{LABEL}app", f"{LABEL}service"
MANAGED = "app.kubernetes.io/managed-by"
MANAGER = "slipway"
CONFIG = f"{LABEL}config"
APPLIED = f"{LABEL}applied"
RESTARTED = f"{LABEL}restarted"
VERSION = "app.kubernetes.io/version"
# A Deployment's Pods carry its name and 17 characters more, a StatefulSet's revisions 11; all are labels' values, too.
LONGEST = 46
_PART = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_SERVICE = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)


def object_name(*parts: str, limit: int = LONGEST) -> str:
    """The parts with ``-`` between them, a DNS label; a digest ends it where that could be read in two ways.

    ``shop`` and ``web`` are ``shop-web``; ``shop`` and ``my-web`` would be the same as ``shop-my`` and ``web``.
    """
    text = "-".join(parts)
    plain = len(parts) <= 2 and all("-" not in part for part in parts[1:])
    if plain and len(text) <= limit and _PART.fullmatch(text):
        return text
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    start = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[: limit - 9].rstrip("-")
    return f"{start}-{digest}" if start else f"x-{digest}"


def label_name(text: str) -> str:
    """The part of a label's key behind its prefix."""
    if _LABEL_NAME.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', text)[:50].strip('-')}-{digest}".lstrip("-")


def is_service_name(text: str) -> bool:
    """Whether others can reach a service by this name."""
    return _SERVICE.fullmatch(text) is not None


def namespace_name(prefix: str, project: str) -> str:
    """Where a project's apps run."""
    return f"{prefix}{project}"


def own_namespace_name(prefix: str, app: AppRef) -> str:
    """Where an app runs that shares the name of a service with another app of its project.

    No project's namespace is called so: no project's name begins with ``-``.
    """
    return f"{prefix}-{object_name(app.project, app.name, limit=62 - len(prefix))}"


def record_name(app: AppRef) -> str:
    """Of the ConfigMap that says which release an app is at: no other name of ours has a dot."""
    return f"app.{app.name}"


def network_label(network: str) -> str:
    return f"network.slipway/{label_name(network)}"


def alias_label(alias: str) -> str:
    return f"alias.slipway/{label_name(alias)}"


def app_labels(app: AppRef) -> dict[str, str]:
    return {PROJECT: app.project, APP: app.name}


def service_labels(app: AppRef, service: str) -> dict[str, str]:
    """What a service's Pods are chosen by; never more, as a workload cannot change its choice."""
    return {**app_labels(app), SERVICE: service}


def object_labels(app: AppRef, version: str, service: str = "") -> dict[str, str]:
    """On every object of an app."""
    return {
        "app.kubernetes.io/name": service or app.name,
        "app.kubernetes.io/instance": app.name,
        "app.kubernetes.io/part-of": app.project,
        MANAGED: MANAGER,
        VERSION: version,
        **app_labels(app),
        **({SERVICE: service} if service else {}),
    }


def digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def stamped(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """With the digest of what it says as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: digest_of(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}
