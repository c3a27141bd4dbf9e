"""Builders for teams that come from elsewhere, behind the same command: somebody's Docker daemon makes the image.

``remote`` talks to a daemon over TLS, ``socket`` to the one of this node, ``dind`` starts a daemon in a privileged
container of this node's for one build and removes it. ``records`` is the database's side and imported by name, since a
worker in a Pod has no database. ``engine`` speaks the Docker Engine API, ``sending`` turns a context into the tar that
it wants, ``archive`` takes the finished image apart into layers of ours.

None of them isolates a build as our own worker does; docs/builders.md compares them. What only our own worker can do
(secrets, SSH agents, named contexts, cache images) is refused by name.
"""

from slipway.build.builders.build import ForeignBuilder, recover, refuse
from slipway.build.builders.record import KINDS, KUBERNETES, BuilderRecord, address_in_pod

__all__ = ["KINDS", "KUBERNETES", "BuilderRecord", "ForeignBuilder", "address_in_pod", "recover", "refuse"]
