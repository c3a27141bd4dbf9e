"""What rendering knows of the cluster, apart from the app."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """``registry``: host and port that the nodes pull from; empty: images by their own names.

    ``pull_secret``: of type ``kubernetes.io/dockerconfigjson``, in every namespace; empty: none. ``domain``: below
    which services are published. ``ingress_class`` and ``storage_class``: empty for the cluster's default.
    ``volume_size`` in bytes, of volumes that do not say theirs. ``port``: where the Ingress controller is reached, for
    addresses shown.
    """

    registry: str = ""
    domain: str = "localhost"
    pull_secret: str = ""
    ingress_class: str = ""
    storage_class: str = ""
    volume_size: int = 1 << 30
    prefix: str = "slipway-"
    port: int = 80
