"""How Slipway talks to the API server of a Kubernetes cluster.

What is here knows Kubernetes' protocol and nothing of Slipway's apps, builds and projects: objects are plain
dictionaries, as the API server sends them. ``ClusterClient`` is the face; behind it stand ``kubeconfig`` (where
the server is and who we are), ``incluster`` (the same for the cluster we run in), ``transport`` (requests, retries,
limits), ``answers`` (statuses as our errors), ``discovery`` (which versions are served), ``listing``, ``watching``,
``podlogs`` and ``running``.

Invariants: nothing given from outside makes this process run a program or read a file; every answer has a limit;
foreign errors become ``slipway.errors`` here. Works from Kubernetes 1.20 on.
"""

from slipway.kubernetes.client import ClusterClient, Propagation
from slipway.kubernetes.discovery import Resource
from slipway.kubernetes.incluster import own_endpoint
from slipway.kubernetes.kubeconfig import Endpoint, read_kubeconfig
from slipway.kubernetes.listing import Listing
from slipway.kubernetes.running import PodCommand
from slipway.kubernetes.watching import Change

__all__ = [
    "Change",
    "ClusterClient",
    "Endpoint",
    "Listing",
    "PodCommand",
    "Propagation",
    "Resource",
    "own_endpoint",
    "read_kubeconfig",
]
