"""What a registry may ask of us when it wants a token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.distribution.challenge import parse_challenge


def test_a_challenge_becomes_a_url() -> None:
    header = 'Bearer realm="https://auth.example/token?x=1",service="r",scope="repository:a/b:pull"'
    found = parse_challenge(header, secure=True)
    assert found is not None
    assert found.url == "https://auth.example/token?x=1&service=r&scope=repository%3Aa%2Fb%3Apull"


@pytest.mark.parametrize(
    "header",
    [
        "",
        'Basic realm="x"',
        "Bearer",
        'Bearer realm="http://plain/token"',
        'Bearer realm="file:///etc/passwd"',
    ],
)
def test_a_secure_registry_cannot_lead_elsewhere(header: str) -> None:
    assert parse_challenge(header, secure=True) is None


@given(st.text(), st.booleans())
def test_any_header_is_a_challenge_or_none(header: str, secure: bool) -> None:
    found = parse_challenge(header, secure)
    assert found is None or found.realm.startswith(("http://", "https://"))
