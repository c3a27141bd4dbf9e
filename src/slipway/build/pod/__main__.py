"""``python -m slipway.build.pod``: see the package."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from slipway.build.pod.namespace import run_inside
from slipway.build.pod.server import Keys
from slipway.build.pod.work import serve
from slipway.build.pods.forms import REFUSED
from slipway.errors import SlipwayError, Unsupported


def main() -> int:
    parser = argparse.ArgumentParser(prog="slipway.build.pod", description="One build for a Slipway server.")
    parser.add_argument(
        "--keys", type=Path, required=True, help="directory of the files server, token, ca.pem"
    )
    parser.add_argument("--work", type=Path, required=True, help="an empty directory on a disk")
    given = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    try:
        keys = Keys.read(given.keys)
        directory = given.work / "worker"
        return run_inside(lambda: asyncio.run(serve(keys, directory)), [directory])
    except Unsupported as error:
        print(error, file=sys.stderr)
        return REFUSED
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
