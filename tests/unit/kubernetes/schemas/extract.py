"""Takes from an older release of kubernetes-validate what its newest one has no more, for the kinds that we render.

    pip download --no-deps kubernetes-validate==1.24.0 && tar xzf kubernetes-validate-1.24.0.tar.gz
    python extract.py kubernetes-validate-1.24.0/src/kubernetes_validate/kubernetes-json-schema v1.20 v1.21 …

Kept are the definitions and what they refer to, without descriptions, as JSON Schema made of Kubernetes' own published
API (Apache License 2.0).
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

KINDS = frozenset((
    "ClusterRole", "ClusterRoleBinding", "ConfigMap", "CronJob", "Deployment", "EndpointSlice",
    "HorizontalPodAutoscaler", "Ingress", "Job", "Lease", "Namespace", "NetworkPolicy",
    "PersistentVolumeClaim", "Pod", "PodDisruptionBudget", "Role", "RoleBinding", "Secret",
    "SelfSubjectAccessReview", "Service", "ServiceAccount", "StatefulSet",
))  # fmt: skip
_REFERENCE = "#/definitions/"


def extract(definitions: dict[str, Any]) -> dict[str, Any]:
    waiting = [
        name
        for name, definition in definitions.items()
        if any(item["kind"] in KINDS for item in definition.get("x-kubernetes-group-version-kind", ()))
    ]
    found: dict[str, Any] = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _bare(definitions[name])
            waiting += _referred(found[name])
    return dict(sorted(found.items()))


def _bare(value: Any) -> Any:
    """Without descriptions; a field of that name is no text."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _bare(item)
        for key, item in value.items()
        if not (key == "description" and isinstance(item, str)) and not key.startswith("x-kubernetes-patch")
    }


def _referred(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for item in value for name in _referred(item)]
    if not isinstance(value, dict):
        return []
    reference = value.get("$ref")
    mine = [reference.removeprefix(_REFERENCE)] if isinstance(reference, str) else []
    return mine + [name for item in value.values() for name in _referred(item)]


if __name__ == "__main__":
    for version in sys.argv[2:]:
        source = Path(sys.argv[1]) / f"{version}.0-local-strict" / "_definitions.json"
        made = extract(json.loads(source.read_text())["definitions"])
        text = json.dumps(made, separators=(",", ":"), sort_keys=True)
        Path(__file__).with_name(f"{version}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
