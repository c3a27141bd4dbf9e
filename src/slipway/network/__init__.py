"""How containers and builds reach each other and the world, and how the world reaches services.

``networks`` owns bridge networks: netavark makes bridges, addresses and NAT, aardvark-dns answers names, the addresses
are ours to give. ``balancer`` owns HAProxy, which every published service is reached through.

On disk: ``<data>/networks/<name>.json`` holds a network's subnet and the addresses given out, written atomically;
``<run>/netns/<id>`` are bind mounts of network namespaces; ``<run>/balancer/`` holds HAProxy's configuration, map and
sockets. One server uses them at a time; a lock a network orders its own tasks.
Neighbours: ``slipway.runtime`` attaches containers, ``slipway.engines.embedded`` publishes routes.
"""

from slipway.network.balancer import Balancer
from slipway.network.build import BuildNetwork
from slipway.network.networks import Networks
from slipway.network.records import Attachment, Network
from slipway.network.routes import Route, Server

__all__ = ["Attachment", "Balancer", "BuildNetwork", "Network", "Networks", "Route", "Server"]
