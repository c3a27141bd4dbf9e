"""Containers on one machine: an OCI runtime makes them, conmon watches them, we own everything else.

``spec`` says what a container is to be, ``record`` what it is now. ``parts`` makes what it consists of: ``etc`` its own
files, ``volumes`` what they begin with, ``bundle`` the runtime's config.json (pure); ``conmon`` runs the process.
``life`` is what happens to one container, asked for or by itself, as ``health`` and ``restart`` decide; ``containers``
are all of them. ``host`` finds out what this machine can do.

On disk: ``<data>/containers/<id>/`` has container.json (the record, written atomically), bundle/config.json, the log
and the files mounted over /etc; ``<run>/exits/<id>`` is written by conmon. A container and its conmon live on when the
server ends, and are found again; one that was half made or half removed goes. Nothing is in the database.

Neighbours: ``slipway.snapshots`` mounts the root; networks are given by whoever implements ``ports.ContainerNetworks``.
"""

from slipway.runtime.containers import Containers
from slipway.runtime.host import Check, HostFacts
from slipway.runtime.ports import ContainerNetworks, NetworkAddress
from slipway.runtime.record import Container
from slipway.runtime.spec import ContainerSpec, HealthCheck, Mount, NetworkRequest, Resources, RestartPolicy

__all__ = [
    "Check",
    "Container",
    "ContainerNetworks",
    "ContainerSpec",
    "Containers",
    "HealthCheck",
    "HostFacts",
    "Mount",
    "NetworkAddress",
    "NetworkRequest",
    "Resources",
    "RestartPolicy",
]
