"""All objects of a kind, in pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.errors import Exhausted
from slipway.kubernetes.answers import Expired
from slipway.kubernetes.discovery import Resource
from slipway.kubernetes.transport import Transport

PAGE = 500
MOST_ITEMS = 100_000
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """What there was at ``version`` (a resourceVersion, from which a watch goes on)."""

    items: list[dict[str, Any]]
    version: str


def selector(labels: Mapping[str, str] | str | None) -> str:
    """``{"app": "web"}`` as ``app=web``; a text as it is."""
    if labels is None or isinstance(labels, str):
        return labels or ""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


async def list_all(
    transport: Transport, resource: Resource, namespace: str | None, params: Mapping[str, str]
) -> Listing:
    """Raises ``Exhausted`` above ``MOST_ITEMS``. Begins again where a page's version expired meanwhile."""
    what = f"list {resource.plural}" + (f" in {namespace}" if namespace else "")
    for attempt in range(_ATTEMPTS):
        try:
            return await _pages(transport, resource, resource.path(namespace), params, what)
        except Expired:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def _pages(
    transport: Transport, resource: Resource, path: str, params: Mapping[str, str], what: str
) -> Listing:
    items: list[dict[str, Any]] = []
    token = ""
    while True:
        page = {**params, "limit": str(PAGE), **({"continue": token} if token else {})}
        answer = await transport.json("GET", path, what, params=page)
        for item in answer.get("items") or ():
            # A list's items do not say what they are.
            items.append({"apiVersion": resource.api_version, "kind": resource.kind, **item})
        if len(items) > MOST_ITEMS:
            raise Exhausted(f"could not {what}: more than {MOST_ITEMS} objects")
        metadata = answer.get("metadata") or {}
        token = str(metadata.get("continue") or "")
        if not token:
            return Listing(items, str(metadata.get("resourceVersion") or ""))
