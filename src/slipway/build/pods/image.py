"""The image of workers in Pods."""

from __future__ import annotations

from slipway.build.own_image import OwnImage

KEYS, WORK, CACHE = "/run/slipway/keys", "/work", "/cache"
DOCKER, NODE_SOCKET, TLS = "/run/slipway/docker", "/run/slipway/node.sock", "/run/slipway/tls"
"""Where a worker has a Docker daemon's socket: of the one beside it (a directory), of its node's; and certificates."""
WORKER = OwnImage(
    "slipway-worker",
    ("aiohttp", "isal", "PyYAML", "zstandard"),
    ("python3", "-m", "slipway.build.pod", "--keys", KEYS, "--work", WORK),
)
