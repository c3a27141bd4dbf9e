"""The cluster that this process runs in, by the account of its own Pod."""

from __future__ import annotations

import os
from pathlib import Path

from slipway.errors import Invalid
from slipway.kubernetes.kubeconfig import Endpoint

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def own_endpoint(account: Path = ACCOUNT) -> Endpoint:
    """Raises ``Invalid`` where this is no Pod, or one without an account.

    The token is read for each request: the cluster replaces it every hour or so.
    """
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST", ""),
        os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    token = account / "token"
    if not host or not token.exists():
        raise Invalid(
            "this server does not run in a cluster, or its Pod has no service account",
            hint="add a cluster with its kubeconfig: slipway cluster add NAME --kubeconfig FILE",
        )
    name = f"[{host}]" if ":" in host else host
    return Endpoint(
        f"https://{name}:{port}", authority=(account / "ca.crt").read_text(), token_file=str(token)
    )
