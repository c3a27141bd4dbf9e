"""What a build leaves behind besides the image: which packages are in it, how it was made, and a signature.

``inventory`` collects, from each layer as it is written (or once, when an older one is first asked about), the files
that package managers keep their records in; ``readers`` and ``rpm`` understand them; ``spdx`` and ``provenance`` are
the documents; ``project_keys`` has the keys, ``signing`` the formats of cosign and DSSE; ``referrers`` puts it all into
OCI manifests with the image as their ``subject``.

Invariants: an image is data from anybody, so every reader is bounded and a damaged record is passed over with a note,
never an error; documents are the same bytes for the same image, build and key.

A worker elsewhere takes inventories and signs nothing: who signs, imports ``attestor`` and ``project_keys`` by name.
"""

from slipway.build.attest.inventory import Inventories, Watch
from slipway.build.attest.provenance import Provenance

__all__ = ["Inventories", "Provenance", "Watch"]
