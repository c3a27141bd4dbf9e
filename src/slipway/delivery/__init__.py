"""Apps and releases: what should run, and how one release takes over from another without losing a request.

A *release* is an immutable record: the resolved Compose model, images by digest, who, when, from which source. Deploy,
rollback and scale are moves between what runs and what a release says; ``rollout`` makes them, ``plan`` decides them
without I/O, ``reconcile`` keeps them true afterwards. An app is changed by one task at a time.

Neighbours: ``engine`` is the Protocol that ``slipway.engines`` implements; builds come from ``slipway.build``.
"""

from slipway.delivery.apps import Apps, AppState
from slipway.delivery.builder import Builder, BuildOrder
from slipway.delivery.deliver import Deliverer
from slipway.delivery.engine import AppRef, Engine, Instance
from slipway.delivery.releases import Release

__all__ = [
    "AppRef",
    "AppState",
    "Apps",
    "BuildOrder",
    "Builder",
    "Deliverer",
    "Engine",
    "Instance",
    "Release",
]
