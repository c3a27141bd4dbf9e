"""Base images from a distribution's packages, so that a site without any public registry can start."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from slipway.base.clock import iso, now
from slipway.base.process import run
from slipway.content import ContentStore
from slipway.errors import Invalid, Unsupported
from slipway.layers import Layer, import_tar
from slipway.oci import HistoryEntry, ImageConfig, Platform

_SUITE = re.compile(r"[a-z][a-z0-9-]{1,30}")
_VARIANTS = ("minbase", "essential", "apt", "important", "standard", "buildd")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{0,100}")
_SECONDS = 1800


async def debian(
    blobs: ContentStore,
    suite: str,
    *,
    mirror: str = "",
    include: list[str] | None = None,
    variant: str = "minbase",
) -> tuple[ImageConfig, Layer]:
    """A Debian root as one layer, made by mmdebstrap. The caller holds a lease or stores the image at once.

    Packages come from ``mirror``, else from where this host's come if it is of the same release, else from
    mmdebstrap's default. Raises ``Invalid`` for malformed names and ``CommandFailed`` with mmdebstrap's words.
    """
    if not _SUITE.fullmatch(suite):
        raise Invalid(f"not a Debian release: {suite[:60]!r}", hint="e.g. debian:bookworm")
    if variant not in _VARIANTS:
        raise Invalid(f"unknown variant {variant[:40]!r}", hint=f"one of {', '.join(_VARIANTS)}")
    for name in include or []:
        if not _PACKAGE.fullmatch(name):
            raise Invalid(f"not a package name: {name[:60]!r}")
    sources = "" if mirror else _host_sources(suite)
    with tempfile.TemporaryDirectory(prefix="slipway-base-", dir="/var/tmp") as directory:
        tar = Path(directory) / "root.tar"
        options = ["--quiet", f"--variant={variant}", "--format=tar"]
        options += [f"--include={','.join(include)}"] if include else []
        argv = ["mmdebstrap", *options, suite, str(tar), *([mirror] if mirror else ["-"] if sources else [])]
        await run(argv, stdin=sources.encode() if sources else None, timeout=_SECONDS)
        with await asyncio.to_thread(tar.open, "rb") as stream:
            layer = await asyncio.to_thread(import_tar, blobs, stream)
    created = iso(now())
    config = ImageConfig(
        Platform.host(),
        (layer.diff_id,),
        {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]},
        (HistoryEntry(f"mmdebstrap --variant={variant} {suite}", created),),
        created,
    )
    return config, layer


def parse_name(name: str) -> tuple[str, str]:
    """``debian:bookworm`` as distribution and release. Raises ``Unsupported`` for other distributions."""
    distribution, sign, suite = name.partition(":")
    if distribution != "debian" or not sign:
        raise Unsupported(f"base images of {name[:60]!r} cannot be made", hint="e.g. debian:bookworm")
    return distribution, suite


def _host_sources(suite: str) -> str:
    """This host's own package sources, if they are Debian's and of the same release."""
    try:
        release = Path("/etc/os-release").read_text()
        if "ID=debian" not in release or f"VERSION_CODENAME={suite}" not in release:
            return ""
        for name in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
            path = Path(name)
            if path.is_file() and path.stat().st_size:
                return path.read_text()
    except OSError:
        pass
    return ""
