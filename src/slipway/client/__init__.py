"""The client of the platform API: what the command line and scripts use.

Standard library only besides ``slipway.wire``, so that a command starts quickly. Errors of the server come back as
the same ``slipway.errors`` classes that it raised.
"""

from slipway.client.client import Client
from slipway.client.credentials import Credentials
from slipway.client.transport import Transport

__all__ = ["Client", "Credentials", "Transport"]
