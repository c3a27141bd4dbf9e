"""``python -I -S …/slipway/build/worker/__main__.py SOCKET``: from a bare interpreter to the worker's main loop."""

from __future__ import annotations

import os
import sys
import types


def _bootstrap() -> None:
    """Make ``slipway.build.worker`` importable without the rest of ``slipway.build``, which a worker has no use for."""
    build = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, os.path.dirname(os.path.dirname(build)))
    package = types.ModuleType("slipway.build")
    package.__path__ = [build]
    sys.modules["slipway.build"] = package


if __name__ == "__main__":
    _bootstrap()
    from slipway.build.worker.main import main

    main(int(sys.argv[1]))
