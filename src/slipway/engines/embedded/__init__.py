"""The engine of one machine: containers of ours, bridge networks, HAProxy.

It keeps nothing that a restart could lose: an instance is a container with our labels, and what the balancer serves is
in ``<data>/routes.json``, written after each change; servers in it that no longer run are passed over. Networks are
named ``PROJECT_APP`` and volumes ``<data>/volumes/PROJECT_APP_VOLUME``: ``-`` is part of both names, ``_`` of neither,
so that no app can name another's. Neighbours: ``slipway.runtime``, ``slipway.network``,
``slipway.registry`` for images.
"""

from slipway.engines.embedded.engine import EmbeddedEngine
from slipway.engines.embedded.specs import volumes_of

__all__ = ["EmbeddedEngine", "volumes_of"]
