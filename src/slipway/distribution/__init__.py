"""The client side of the distribution protocol: images of any registry into the content store, and back.

Every byte is verified before it is a blob; what is in the store already is not fetched again; foreign layer URLs are
never followed and no credential goes to another host than the one it is for. Registries on the loopback range are
spoken to over plain HTTP, all others over HTTPS.

Neighbours: ``slipway.content`` takes the blobs; ``slipway.app`` puts what was pulled into the registry.
"""

from slipway.distribution.archives import image_archive
from slipway.distribution.layouts import OciLayout
from slipway.distribution.pull import Pulled, fetch_blob, pull
from slipway.distribution.push import push
from slipway.distribution.remote import Login, RemoteRegistry
from slipway.distribution.together import each_blob

__all__ = [
    "Login",
    "OciLayout",
    "Pulled",
    "RemoteRegistry",
    "each_blob",
    "fetch_blob",
    "image_archive",
    "pull",
    "push",
]
