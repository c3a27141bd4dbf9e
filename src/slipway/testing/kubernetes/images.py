"""Images as archives that ``ctr images import`` takes, so that Pods start without any registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence

from slipway.oci import Platform
from slipway.testing.busybox import busybox_tar

# Ends at once when it is told to, and buries what is left to it in the meantime.
_PAUSE = "trap 'exit 0' TERM INT; while :; do sleep 2147483 & wait $!; done"


def image_tar(
    name: str, layer: bytes, command: Sequence[str], environment: Sequence[str] = ("PATH=/bin:/usr/bin",)
) -> bytes:
    """An image of one layer (an uncompressed tar) called ``name`` (with its host and tag), as a Docker archive."""
    platform = Platform.host()
    config = json.dumps(
        {
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Cmd": list(command), "Env": list(environment)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, data in (("layer.tar", layer), ("config.json", config), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def busybox_image(name: str) -> bytes:
    """A small image with a shell, a web server and a client in it."""
    return image_tar(name, busybox_tar(), ["sh"])


def pause_image(name: str) -> bytes:
    """What holds a Pod's namespaces open."""
    return image_tar(name, busybox_tar(), ["/bin/sh", "-c", _PAUSE])
