"""The registry's semantics, free of any web framework: repositories, manifests, tags, blobs, uploads, referrers.

Bytes are in ``slipway.content``, everything else is in the database, so that deletion, links and collection are
transactions and not walks. Repositories are called ``PROJECT/NAME``; a blob may be read in a repository only if it is
linked there. A blob that was uploaded or mounted is protected by its age until a manifest references it.

Neighbours: ``slipway.api.registry`` speaks HTTP, ``slipway.build`` stores images without a copy.
"""

from slipway.registry.images import ResolvedImage
from slipway.registry.lists import TagRecord
from slipway.registry.manifests import StoredManifest
from slipway.registry.registry import Registry
from slipway.registry.retaining import Retention
from slipway.registry.transfers import Format, Transfers
from slipway.registry.trash import Trash
from slipway.registry.uploads import UploadState

__all__ = [
    "Format",
    "Registry",
    "ResolvedImage",
    "Retention",
    "StoredManifest",
    "TagRecord",
    "Transfers",
    "Trash",
    "UploadState",
]
