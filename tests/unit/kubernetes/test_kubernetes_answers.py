"""What an API server refuses, in our errors and in words."""

from __future__ import annotations

from typing import Any

import pytest

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
from slipway.kubernetes.answers import Expired, error_of, retry_after, status_of

QUOTA = 'pods "web-1" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3'


@pytest.mark.parametrize(
    ("code", "reason", "text", "details", "kind", "said"),
    [
        (401, "Unauthorized", "Unauthorized", {}, Unauthenticated, "credentials"),
        (403, "Forbidden", 'pods is forbidden: User "x" cannot list', {}, Denied, 'User "x" cannot list'),
        (403, "Forbidden", QUOTA, {}, Exhausted, "quota small, requested: pods=1, used: pods=3"),
        (
            403, "Forbidden", "unable to create new content in namespace a because it is being terminated",
            {"causes": [{"reason": "NamespaceTerminating"}]}, Conflict, "is being deleted",
        ),
        (404, "NotFound", 'pods "a" not found', {}, NotFound, 'pods "a" not found'),
        (409, "AlreadyExists", "already exists", {}, Conflict, "exists already"),
        (
            409, "Conflict", "Apply failed with 1 conflict",
            {"causes": [
                {"reason": "FieldManagerConflict", "field": ".spec.replicas", "message": 'conflict with "hpa"'}
            ]},
            Conflict, '.spec.replicas (conflict with "hpa")',
        ),
        (410, "Expired", "too old resource version", {}, Expired, "no longer knows"),
        (
            422, "Invalid", 'Deployment "a" is invalid: many',
            {"causes": [{"reason": "x", "field": "spec.template", "message": "Required value"}]},
            Invalid, "spec.template: Required value",
        ),
        (400, "BadRequest", 'container "a" in pod "b" is waiting to start: X', {}, Unavailable, "start"),
        (400, "BadRequest", "strict decoding error", {}, Invalid, "strict decoding"),
        (413, "RequestEntityTooLarge", "limit is 3145728", {}, Exhausted, "larger"),
        (415, "UnsupportedMediaType", "no", {}, Unsupported, "cannot"),
        (429, "TooManyRequests", "wait", {}, Unavailable, "429"),
        (500, "InternalError", "etcd", {}, Unavailable, "500"),
        (500, "", "failed to create typed patch object: .data.a: expected string", {}, Invalid, ".data.a"),
        (500, "", "resourceVersion should not be set on objects to be created", {}, Conflict, "changed meanwhile"),
        (503, "ServiceUnavailable", "away", {}, Unavailable, "503"),
    ],
)  # fmt: skip
def test_each_refusal_has_its_kind(
    code: int, reason: str, text: str, details: dict[str, Any], kind: type[SlipwayError], said: str
) -> None:
    status = {"kind": "Status", "code": code, "reason": reason, "message": text, "details": details}
    error = error_of(status, code, "apply Deployment shop/web", "https://c")
    assert type(error) is kind
    assert said in error.message
    assert error.context["code"] == code


def test_an_answer_of_a_proxy_is_shown_as_it_is() -> None:
    status = status_of(b"<html>bad gateway</html>", 502)
    assert "bad gateway" in error_of(status, 502, "see it", "https://c").message
    assert len(error_of(status_of(b"x" * 100_000, 500), 500, "see it", "https://c").message) < 3000


def test_when_to_come_again() -> None:
    assert retry_after({}, "3") == 3
    assert retry_after({"details": {"retryAfterSeconds": 1}}, None) == 1
    assert retry_after({}, "Wed, 21 Oct 2026 07:28:00 GMT") is None
    assert retry_after({}, None) is None
