"""What asks registries in a benchmark: curl, wrk and skopeo, and an image for them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from isal import igzip

from slipway.testing.peers import call
from slipway.testing.registry_sides import Side

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
WRK_SECONDS = 5


def curl(token: str, url: str, *words: str) -> str:
    header = f"Authorization: Bearer {token}"
    return call(["curl", "-sS", "--fail", "-o", "/dev/null", "-H", header, *words, url])


def upload(side: Side, token: str, repository: str, blob: Path, digest: str) -> None:
    """As clients push: POST, PATCH, PUT."""
    header = {"Authorization": f"Bearer {token}"}
    start = urllib.request.Request(
        f"http://127.0.0.1:{side.port}/v2/{repository}/blobs/uploads/", b"", header, method="POST"
    )
    with urllib.request.urlopen(start) as answer:
        place = _absolute(side, answer.headers["Location"])
    place = _absolute(side, _patched(token, place, blob))
    sign = "&" if "?" in place else "?"
    curl(token, f"{place}{sign}digest={digest}", "-X", "PUT", "-d", "")


def _patched(token: str, place: str, blob: Path) -> str:
    header = f"Authorization: Bearer {token}"
    words = ["-X", "PATCH", "-H", header, "-H", "Content-Type: application/octet-stream", "-T", str(blob)]
    head = call(["curl", "-sS", "--fail", "-D", "-", "-o", "/dev/null", *words, place])
    found = re.findall(r"(?im)^location:\s*(\S+)", head)
    return str(found[-1])


def _absolute(side: Side, location: str) -> str:
    return location if location.startswith("http") else f"http://127.0.0.1:{side.port}{location}"


def wrk(side: Side, repositories: Sequence[str], *words: str) -> float:
    """Requests a second, all answered as they should."""
    header = f"Authorization: Bearer {side.token(repositories)}"
    accept = f"Accept: {MANIFEST}"
    text = call(["wrk", f"-d{WRK_SECONDS}s", "-H", header, "-H", accept, *words])
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(text)
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", text)[0])


def skopeo(side: Side, repository: str, source: str, target: str) -> float:
    token, words = side.token([repository]), []
    for name, text in (("src", source), ("dest", target)):
        if text.startswith("docker:"):
            words += [f"--{name}-registry-token={token}", f"--{name}-tls-verify=false"]
    began = time.monotonic()
    call(["skopeo", "--insecure-policy", "copy", "-q", *words, source, target])
    return time.monotonic() - began


def umoci_layout(parent: Path, hello: bytes) -> Path:
    """An image of one layer with the file ``/hello``, tagged ``1`` in an OCI layout, as umoci makes it."""
    layout, bundle = parent / "oci", parent / "bundle"
    image = ("--image", f"{layout}:1")

    def umoci(*words: str) -> None:
        subprocess.run(["umoci", *words], capture_output=True, check=True, timeout=120)

    umoci("init", "--layout", str(layout))
    umoci("new", *image)
    umoci("unpack", *image, str(bundle))
    (bundle / "rootfs" / "hello").write_bytes(hello)
    umoci("repack", *image, str(bundle))
    return layout


def new_layout(parent: Path, count: int, size: int) -> Path:
    """An image of ``count`` layers that nobody has seen, in an OCI layout."""
    directory = parent / f"layout-{secrets.token_hex(4)}"
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layers, inside = [], []
    for number in range(count):
        raw = BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as archive:
            member = tarfile.TarInfo(f"file{number}")
            member.size = size
            archive.addfile(member, BytesIO(os.urandom(size)))
        inside.append("sha256:" + hashlib.sha256(raw.getvalue()).hexdigest())
        layers.append(put(igzip.compress(raw.getvalue(), 0), LAYER))
    config = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": inside}, "config": {},
    }  # fmt: skip
    described = put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
    entry = put(json.dumps(body).encode(), MANIFEST) | {
        "annotations": {"org.opencontainers.image.ref.name": "1"}
    }
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory
