"""What a caller asks to be built, checked and typed."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

from slipway import wire
from slipway.access import Identity
from slipway.build.cache_images import CacheTarget
from slipway.build.plan.steering import KEEP_GIT_DIR, is_set
from slipway.build.request import SolveRequest
from slipway.distribution import Login
from slipway.errors import Invalid
from slipway.oci import Platform, Reference

PRIORITIES = {"low": -1, "normal": 0, "high": 1}
MAX_SECRET = 500 * 1024
_OF_CONTEXT = "context"
_LATEST = 253402300799  # the end of the year 9999


def solve_request(caller: Identity, request: wire.BuildRequest) -> SolveRequest:
    """The request but for its contexts, which are opened later. Raises ``Invalid`` and ``Denied``."""
    targets = [
        CacheTarget(Reference.parse(item.reference), item.steps, item.mounts) for item in request.cache_to
    ]
    return SolveRequest(
        "", Path("/"), request.dockerfile, request.inline, request.target, request.args, request.labels,
        no_cache=request.no_cache, secrets=_secrets(request.secrets),
        from_git=bool(request.source.git) and not is_set(request.args, KEEP_GIT_DIR),
        uncached=frozenset(name.lower() for name in request.no_cache_filter),
        source=_called(request.source), epoch=_epoch(request.args), cache_to=tuple(targets),
        cache_from=tuple(Reference.parse(text) for text in request.cache_from),
    )  # fmt: skip


def _called(source: wire.Source) -> str:
    """What provenance says of the source: the repository, or the commit a directory was at; never a path of ours."""
    if source.git:
        return f"git+{source.git}"
    return f"local@{source.revision}" if source.revision else "local"


def platforms_of(request: wire.BuildRequest) -> list[Platform]:
    """What to build for, each once; by default what the server itself is."""
    return list(dict.fromkeys(Platform.parse(text) for text in request.platforms)) or [Platform.host()]


def logins_of(request: wire.BuildRequest) -> dict[str, Login]:
    return {host: Login(item.username, item.password) for host, item in request.logins.items()}


def _epoch(args: dict[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH, as reproducible-builds.org has it: whole seconds."""
    text = args.get("SOURCE_DATE_EPOCH")
    if not text or text == _OF_CONTEXT:
        return None
    if not text.isascii() or not text.isdigit() or int(text[:12]) > _LATEST:
        raise Invalid(
            f"SOURCE_DATE_EPOCH={text[:40]} is no time",
            hint="whole seconds since 1970, e.g. git log -1 --format=%ct",
        )
    return int(text)


def with_epoch_of_context(solve: SolveRequest, committed: int | None) -> SolveRequest:
    """``SOURCE_DATE_EPOCH=context`` as the time of the commit that is built. Raises ``Invalid`` if it is none."""
    if solve.args.get("SOURCE_DATE_EPOCH") != _OF_CONTEXT:
        return solve
    if committed is None:
        raise Invalid(
            "SOURCE_DATE_EPOCH=context needs a git repository as the context",
            hint="for a directory: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)",
        )
    return replace(solve, args={**solve.args, "SOURCE_DATE_EPOCH": str(committed)}, epoch=committed)


def _secrets(given: dict[str, str]) -> dict[str, bytes]:
    found = {}
    for name, text in given.items():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise Invalid(f"the secret {name!r} is not base64") from error
        if len(found[name]) > MAX_SECRET:
            raise Invalid(f"the secret {name!r} is larger than {MAX_SECRET} bytes")
    return found
