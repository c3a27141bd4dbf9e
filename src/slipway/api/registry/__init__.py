"""The OCI distribution protocol and Docker's token protocol over ``slipway.registry``."""

from slipway.api.registry.app import create_app

__all__ = ["create_app"]
