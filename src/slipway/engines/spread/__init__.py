"""The engine over several clusters: an app's parts are moved by the engines of its clusters, all together or none.

A cluster that fails meanwhile is no part of the "all": it is brought to the release when it is back.

``shares`` divides instances by weight; ``placing`` decides which clusters carry an app, ``asking`` whether it can be
where somebody wants it (both pure); ``situations`` holds that against where it is; ``parts`` says what one of them runs
of it; ``rollout`` moves all of them with one vote; ``shifting`` takes shares to others when a cluster fails and back
when it returns. ``engine`` is the whole, one for all clusters.

An app without volumes is spread: each cluster has every service with its share of instances, one at least, so that
services find each other by name without a word between clusters; jobs run on one of them, the app's home. An app with
volumes, or with a service that says ``x-slipway: {spread: false}``, is whole on one cluster.

Where an app is, is kept in the database (``slipway.delivery.placements``): ``on`` grows before anything is made on a
cluster and shrinks after everything of the app is gone from it, ``weights`` change when the new shares are up and
before the old ones end. So a kill at any time leaves a record from which ``mend`` finds the way.
"""

from slipway.engines.spread.engine import Spread
from slipway.engines.spread.members import Members

__all__ = ["Members", "Spread"]
