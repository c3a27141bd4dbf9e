"""COPY and ADD as pure planning: which entries a layer gets, from which tree, with which owner and mode.

``select`` finds the sources, ``place`` gives them their paths in the new root and adds the parents that are missing
there, ``content_key`` says what the result depends on. The layer is then written straight from the source tree, with
no snapshot in between.
"""

from slipway.build.copy.contents import HashCache, content_key, content_parts
from slipway.build.copy.ownership import Ownership, resolve_owner
from slipway.build.copy.place import Placed, nothing, place
from slipway.build.copy.remembered import Remembered, fingerprint
from slipway.build.copy.select import Selected, select, select_with_parents

__all__ = [
    "HashCache",
    "Ownership",
    "Placed",
    "Remembered",
    "Selected",
    "content_key",
    "content_parts",
    "fingerprint",
    "nothing",
    "place",
    "resolve_owner",
    "select",
    "select_with_parents",
]
