"""What the API servers may do in the cluster they run in: a service account of their own, and its role.

Projects' namespaces are made when they are needed, so the role is of the whole cluster. It has no right to change
roles, nodes, webhooks or anything else that is of the whole cluster but namespaces; but as it writes Pods and reads
Secrets in all of them, it is worth as much as the cluster's own administrator: guard its Pods as you guard those.
"""

from __future__ import annotations

from typing import Any

from slipway.install.objects import object_

ACCOUNT = "slipway-api"
_ALL = ["get", "list", "watch", "create", "patch", "update", "delete"]
_RULES = (
    ("", ["namespaces"], _ALL),
    ("", ["nodes", "events"], ["get", "list", "watch"]),
    ("", ["pods", "services", "configmaps", "secrets", "persistentvolumeclaims"], _ALL),
    ("", ["pods/log"], ["get"]),
    (
        "",
        ["pods/exec"],
        ["get", "create"],
    ),  # a WebSocket begins with a GET, and needs both since Kubernetes 1.35
    ("apps", ["deployments", "statefulsets"], _ALL),
    ("batch", ["jobs"], _ALL),
    ("networking.k8s.io", ["ingresses", "networkpolicies"], _ALL),
)


def objects(namespace: str) -> list[dict[str, Any]]:
    """The account, which is ``namespace``'s, and what binds it to its role."""
    name = f"slipway-api-{namespace}"
    rules = [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in _RULES]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    who = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    version = "rbac.authorization.k8s.io/v1"
    return [
        object_("v1", "ServiceAccount", ACCOUNT),
        object_(version, "ClusterRole", name, rules=rules),
        object_(version, "ClusterRoleBinding", name, roleRef=role, subjects=[who]),
    ]
