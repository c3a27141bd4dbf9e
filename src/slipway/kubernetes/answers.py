"""An API server's refusals as our errors, in words a person understands.

The API server answers with a ``Status`` object: ``code``, ``reason``, ``message`` and, for some, ``details.causes``.
"""

from __future__ import annotations

import json
from typing import Any

from slipway.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    NotFound,
    SlipwayError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

_MOST_TEXT = 2000
_MOST_CAUSES = 10
# What is applied as it was seen, and is not there any more.
_GONE = "resourceVersion should not be set on objects to be created"


class Expired(Unavailable):
    """410: the version that a list or watch went on from is no longer known. Begin again."""


def status_of(body: bytes, code: int) -> dict[str, Any]:
    """The ``Status`` in an answer; one made from its text where a proxy or the mux answered instead."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and found.get("kind") == "Status":
        return found
    return {"code": code, "message": body.decode(errors="replace").strip()[:_MOST_TEXT]}


def error_of(status: dict[str, Any], code: int, what: str, server: str) -> SlipwayError:
    """The error that ``status`` means; ``what`` is what was asked, e.g. ``apply Deployment shop/web``."""
    text = str(status.get("message") or "")[:_MOST_TEXT]
    reason = str(status.get("reason") or "")
    causes = _causes(status)
    said = f": {text}" if text else ""
    context: dict[str, Any] = {"code": code, "reason": reason, "causes": causes}
    if code == 401:
        return Unauthenticated(
            f"the cluster at {server} does not accept our credentials{said}",
            hint="they may have expired: remove the cluster and add it with a new kubeconfig",
            **context,
        )
    if code == 403:
        return _forbidden(text, what, causes, context)
    if code == 404:
        return NotFound(f"could not {what}{said}", **context)
    if code == 409 or (code == 500 and text == _GONE):
        return _conflict(reason, text, what, causes, context)
    if code == 410:
        return Expired(f"could not {what}: the cluster no longer knows that version{said}", **context)
    # 1.20 calls an object of a wrong form, applied server-side, a fault of its own.
    if code in (400, 422) or (code == 500 and text.startswith("failed to create typed patch object")):
        return _invalid(text, what, causes, context)
    if code == 413:
        return Exhausted(f"could not {what}: it is larger than the cluster takes{said}", **context)
    if code in (405, 406, 415, 501):
        return Unsupported(f"the cluster at {server} cannot {what}{said}", **context)
    return Unavailable(f"the cluster at {server} could not {what} now ({code}){said}", **context)


def _forbidden(text: str, what: str, causes: list[dict[str, str]], context: dict[str, Any]) -> SlipwayError:
    if "exceeded quota" in text:
        _, _, quota = text.partition("exceeded quota: ")
        return Exhausted(
            f"could not {what}: the cluster's quota {quota or 'is used up'}",
            hint="free some of it, or have the ResourceQuota of this namespace raised",
            **context,
        )
    if any(cause["reason"] == "NamespaceTerminating" for cause in causes):
        return Conflict(
            f"could not {what}: its namespace is being deleted", hint="wait until it is gone", **context
        )
    return Denied(
        f"the cluster does not allow to {what}: {text}",
        hint="the account in the kubeconfig needs a role for this" if "cannot" in text else "",
        **context,
    )


def _conflict(
    reason: str, text: str, what: str, causes: list[dict[str, str]], context: dict[str, Any]
) -> SlipwayError:
    if reason == "AlreadyExists":
        return Conflict(f"could not {what}: it exists already", **context)
    owned = [
        f"{cause['field']} ({cause['message']})"
        for cause in causes
        if cause["reason"] == "FieldManagerConflict"
    ]
    if owned:
        return Conflict(f"could not {what}: others own {', '.join(owned)}", **context)
    return Conflict(f"could not {what}: it was changed meanwhile: {text}", **context)


def _invalid(text: str, what: str, causes: list[dict[str, str]], context: dict[str, Any]) -> SlipwayError:
    if (
        "is waiting to start" in text or "image can't be pulled" in text
    ):  # the log of a container that is not yet there
        return Unavailable(f"could not {what}: {text}", **context)
    said = "; ".join(f"{cause['field']}: {cause['message']}" for cause in causes if cause["field"]) or text
    return Invalid(f"the cluster refused to {what}: {said}", **context)


def _causes(status: dict[str, Any]) -> list[dict[str, str]]:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    if not isinstance(causes, list):
        return []
    return [
        {key: str(cause.get(key) or "")[:500] for key in ("reason", "message", "field")}
        for cause in causes[:_MOST_CAUSES]
        if isinstance(cause, dict)
    ]


def retry_after(status: dict[str, Any], header: str | None) -> float | None:
    """Seconds that the server asks us to wait, if it does."""
    details = status.get("details")
    asked = header or (details.get("retryAfterSeconds") if isinstance(details, dict) else None)
    try:
        return max(0.0, float(asked)) if asked is not None else None
    except (TypeError, ValueError):
        return None
