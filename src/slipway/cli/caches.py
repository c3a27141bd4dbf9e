"""``--cache-from`` and ``--cache-to``, as a reference alone or with options as BuildKit has them."""

from __future__ import annotations

from slipway.errors import Invalid
from slipway.wire import bodies

_KEYS = ("type", "ref", "mode", "mounts")
_SYNOPSIS = "write PROJECT/NAME:TAG, HOST/NAME:TAG or type=registry,ref=…[,mode=min|max][,mounts=yes|no]"


def cache_source(text: str) -> str:
    return _fields(text)["ref"]


def cache_target(text: str) -> bodies.CacheTarget:
    fields = _fields(text)
    mode, mounts = fields.get("mode", "max"), fields.get("mounts", "yes")
    if mode not in ("min", "max") or mounts not in ("yes", "no"):
        raise Invalid(f"not a cache: {text!r}", hint=_SYNOPSIS)
    return bodies.CacheTarget(reference=fields["ref"], steps=mode == "max", mounts=mounts == "yes")


def _fields(text: str) -> dict[str, str]:
    if "=" not in text:
        return {"ref": text}
    fields = dict(item.partition("=")[::2] for item in text.split(","))
    if fields.get("type", "registry") != "registry" or fields.keys() - set(_KEYS) or not fields.get("ref"):
        raise Invalid(f"not a cache: {text!r}", hint=_SYNOPSIS)
    return fields
