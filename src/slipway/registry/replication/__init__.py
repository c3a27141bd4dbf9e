"""Several registries that hold the same: one that gives to many, tiers of them, two that give to each other.

A tag is a register that the last writer wins. Every move of it (and its removal) has a stamp and the site that made it
(``slipway.registry.clock``), and the latest move of every site that the writer knew of. A move that knew of the one
we have replaces it; one that ours knew of is old news; two that knew nothing of each other are a *conflict*: the
later stamp holds, at every site alike, and the other is recorded (``slipway site conflicts``) and stays reachable by
digest. Manifests and blobs are content and never conflict.

What changed since a sequence (``feed``) is read from the tags themselves and from the graves of removed ones: nothing
grows with the number of pushes, and a new site simply begins at zero. A site that we *push* to is given what changed,
by the registry's own protocol; another Slipway is told the stamps in a header. A site that we *pull* from is asked
for its feed if it is a Slipway, and for its tags if it is not. A run that breaks off goes on blob by blob: what
arrived is not sent again, and the cursor moves only past what is there.

Neighbours: ``slipway.distribution`` talks to the other registry; ``slipway.api.registry`` takes what is pushed.
"""

from slipway.registry.replication.filters import SiteFilter
from slipway.registry.replication.replicator import Progress, Replicator
from slipway.registry.replication.sites import SiteRecord, Sites

__all__ = ["Progress", "Replicator", "SiteFilter", "SiteRecord", "Sites"]
