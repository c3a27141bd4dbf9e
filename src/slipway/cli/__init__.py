"""The command line: knows only the client and the wire schemas, no privileged short cut.

``main`` is the only place that ends the process. Commands that start or stop the platform run ``slipway.app`` as a
program of its own.
"""

from slipway.cli.main import main

__all__ = ["main"]
