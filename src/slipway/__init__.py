"""Slipway: from source to a running, operated service on machines you own.

The packages below are rooms in layers; imports point down only. docs/ARCHITECTURE.md draws them, and
``tests/architecture`` holds the contract.
"""

__version__ = "0.1.0"
