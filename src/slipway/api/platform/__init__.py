"""The platform API: JSON below /api/v1, NDJSON for long work, OpenAPI at /api/docs."""

from slipway.api.platform.app import create_app
from slipway.api.platform.services import Services

__all__ = ["Services", "create_app"]
