"""Logins through an OpenID Connect provider, beside the users of our own.

The life of a login: the browser (authorization code with PKCE) or the command line (device authorization, RFC 8628)
sends the person to the provider; the provider's token endpoint gives an ID token; ``idtokens`` checks it against the
provider's keys; ``people`` reads name and groups from it; ``signing_in`` makes the user row what the provider says; a
login of ours is opened. No token of the provider is kept.

Invariants: a user is known by issuer and subject, never by a name alone; a name that somebody else has is refused; only
asymmetric signatures, only by the key that the provider publishes for that algorithm. Stands on ``slipway.access`` and
``slipway.state``; speaks HTTP to the provider only.
"""

from slipway.access.oidc.config import OidcConfig, parse_group_roles
from slipway.access.oidc.logins import DeviceStart, Done, OidcLogins, Waiting, seal_key
from slipway.access.oidc.provider import Provider

__all__ = [
    "DeviceStart",
    "Done",
    "OidcConfig",
    "OidcLogins",
    "Provider",
    "Waiting",
    "parse_group_roles",
    "seal_key",
]
