"""Implementations of ``slipway.delivery.engine.Engine``, one a package."""
