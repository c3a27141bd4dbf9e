"""The OCI distribution protocol and Docker's token protocol over ``slipway.registry``."""

from slipway.api.registry.app import create_app
from slipway.api.registry.bodies import Pace

__all__ = ["Pace", "create_app"]
