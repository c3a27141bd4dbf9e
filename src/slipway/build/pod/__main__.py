"""``python -m slipway.build.pod``: see the package."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from slipway.build.pod.namespace import Ids, run_inside
from slipway.build.pod.server import Keys
from slipway.build.pod.work import Here, serve
from slipway.build.pods.forms import REFUSED
from slipway.errors import SlipwayError, Unsupported


def main() -> int:
    parser = argparse.ArgumentParser(prog="slipway.build.pod", description="One build for a Slipway server.")
    parser.add_argument(
        "--keys", type=Path, required=True, help="directory of the files server, token, ca.pem"
    )
    parser.add_argument("--work", type=Path, required=True, help="an empty directory on a disk")
    parser.add_argument("--cache", type=Path, help="a volume that keeps what cache mounts have in them")
    parser.add_argument(
        "--slot", type=int, help="which ids to take up, so that they are the same on that volume"
    )
    parser.add_argument(
        "--in-place", action="store_true", help="without a user namespace: a RUN is this container's root"
    )
    parser.add_argument(
        "--daemon", action="store_true", help="only let a Docker daemon build: no RUN is in here"
    )
    given = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    try:
        keys = Keys.read(given.keys)
        directory = given.work / "worker"
        if given.daemon:
            return asyncio.run(serve(keys, Here(directory)))
        if given.in_place:
            kept = given.cache / "in-place" if given.cache else None
            return asyncio.run(serve(keys, Here(directory, kept, in_place=True)))
        ids = Ids.unused(given.slot)
        kept = given.cache / f"{ids.start}-{ids.count}" if given.cache else None
        own = [directory, *([kept] if kept else [])]
        return run_inside(lambda: asyncio.run(serve(keys, Here(directory, kept))), ids, own)
    except Unsupported as error:
        print(error, file=sys.stderr)
        return REFUSED
    except SlipwayError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
