"""Build arguments that steer the builder itself, by the names that BuildKit gave them. No ARG has to declare them.

Others of that family are taken without a word and change nothing: there is one frontend (``BUILDKIT_SYNTAX``), caches
travel with ``--cache-to`` (``BUILDKIT_INLINE_CACHE``), and the SBOM is of the final image (``BUILDKIT_SBOM_SCAN_…``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from slipway.errors import Invalid

KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
MULTI_PLATFORM = "BUILDKIT_MULTI_PLATFORM"
_CACHES = "BUILDKIT_CACHE_MOUNT_NS"
_HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
_YES, _NO = ("1", "t", "T", "true", "TRUE", "True"), ("", "0", "f", "F", "false", "FALSE", "False")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?", re.ASCII)


def is_set(args: Mapping[str, str], name: str) -> bool:
    """Raises ``Invalid`` for what is neither yes nor no."""
    text = args.get(name, "")
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise Invalid(f"not yes or no: {name}={text[:60]}", hint="1 or 0")


def hostname(args: Mapping[str, str]) -> str:
    """What a RUN's machine is to be called; empty for the usual name."""
    text = args.get(_HOSTNAME, "")
    if text and not _NAME.fullmatch(text):
        raise Invalid(f"not the name of a host: {_HOSTNAME}={text[:80]}")
    return text


def cache_id(args: Mapping[str, str], name: str) -> str:
    """The id of a kept directory, below a namespace if one is given."""
    space = args.get(_CACHES, "")
    return f"{space}/{name}" if space else name
