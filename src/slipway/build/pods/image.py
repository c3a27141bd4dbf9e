"""The image of workers in Pods."""

from __future__ import annotations

from slipway.build.own_image import OwnImage

KEYS, WORK = "/run/slipway/keys", "/work"
WORKER = OwnImage(
    "slipway-worker",
    ("aiohttp", "isal", "PyYAML", "zstandard"),
    ("python3", "-m", "slipway.build.pod", "--keys", KEYS, "--work", WORK),
)
