"""Apps and releases: what should run, and how one release takes over from another without losing a request.

A *release* is an immutable record: the resolved Compose model, images by digest, who, when, from which source. Deploy,
rollback and scale are moves between what runs and what a release says; ``plan`` decides them without I/O, ``rollout``
makes them, ``reconcile`` keeps them true afterwards. An app is changed by one task at a time.

Killed at any instant, either the old or the new release serves. The database is the journal: a release is recorded as
pending before anything of it starts; ``current_release`` moves in one transaction, after the new instances answer and
before the first old one ends. So what a kill leaves are instances of a release that is not the current one, and the
reconciler ends those; a removal is recorded before it begins, and finished. Everything else is read from what runs.

``engine`` is the Protocol of everything that runs apps, release by release. An engine that knows single instances only
(``instance_engine``) becomes one through ``stepwise``, which plans and rolls out for it. Which engine runs a project's
apps the ``Deliverer`` is told by a callable, and so are the ``Views``, which look at apps and change nothing.
``policy`` is what a project's apps may have beyond ordinary containers. Builds come through ``builder``.

``deliver`` changes apps, ``views`` looks at them and into them, ``apps`` are the rows that both stand on; ``images``
are what a release's services run, built or looked up.
"""

from slipway.delivery.apps import Apps, AppState
from slipway.delivery.builder import Builder, BuildOrder
from slipway.delivery.deliver import Deliverer
from slipway.delivery.engine import AppRef, Engine, EngineOf, Instance, LogRecord, Move, Place, Wanted
from slipway.delivery.instance_engine import InstanceEngine
from slipway.delivery.outcome import Outcome
from slipway.delivery.placements import Placement, Placements, Shift
from slipway.delivery.policy import AppPolicy
from slipway.delivery.releases import Release
from slipway.delivery.stepwise import Stepwise
from slipway.delivery.views import Views

__all__ = [
    "AppPolicy",
    "AppRef",
    "AppState",
    "Apps",
    "BuildOrder",
    "Builder",
    "Deliverer",
    "Engine",
    "EngineOf",
    "Instance",
    "InstanceEngine",
    "LogRecord",
    "Move",
    "Outcome",
    "Place",
    "Placement",
    "Placements",
    "Release",
    "Shift",
    "Stepwise",
    "Views",
    "Wanted",
]
