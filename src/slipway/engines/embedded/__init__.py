"""The engine of one machine: containers of ours, bridge networks, HAProxy.

It keeps no state of its own: an instance is a container with our labels, a route follows from the last ``publish`` of
each app, and both are found again after a restart. Neighbours: ``slipway.runtime``, ``slipway.network``,
``slipway.registry`` for images.
"""

from slipway.engines.embedded.engine import EmbeddedEngine

__all__ = ["EmbeddedEngine"]
