"""Scores and levels, against what is published for well-known flaws."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.registry.findings import cvss, severity
from slipway.registry.findings.advisories import Level, Severity


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:R/S:C/C:L/I:L/A:N", 5.4),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:N/A:N", 5.9),
        ("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", 1.6),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:P/RL:O", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H", None),
        ("CVSS:3.1/AV:N/AV:L/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", None),
        ("9.8", None),
    ],
)
def test_version_3(vector: str, score: float | None) -> None:
    assert cvss.v3(vector) == score


@pytest.mark.parametrize(
    ("vector", "score"),
    [
        ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0),
        ("(AV:N/AC:L/Au:N/C:N/I:N/A:C)", 7.8),
        ("AV:N/AC:L/Au:N/C:P/I:P/A:P", 7.5),
        ("AV:L/AC:H/Au:N/C:C/I:C/A:C", 6.2),
        ("AV:N/AC:M/Au:N/C:N/I:P/A:N", 4.3),
        ("AV:N/AC:L/Au:N/C:N/I:N/A:N", 0.0),
        ("AV:N", None),
    ],
)
def test_version_2(vector: str, score: float | None) -> None:
    assert cvss.v2(vector) == score


@pytest.mark.parametrize(
    ("vector", "published"),
    [
        ("AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3),
        ("AV:N/AC:L/AT:P/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.2),
        ("AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N", 8.7),
        ("AV:N/AC:L/AT:N/PR:N/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", 6.9),
        ("AV:N/AC:L/AT:N/PR:N/UI:A/VC:N/VI:N/VA:N/SC:L/SI:L/SA:N", 5.1),
        ("AV:L/AC:L/AT:N/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 8.5),
        ("AV:L/AC:L/AT:N/PR:L/UI:N/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N", 4.8),
        ("AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:N/SC:N/SI:N/SA:N", 0.0),
    ],
)
def test_version_4_is_put_no_level_too_low(vector: str, published: float) -> None:
    estimate = cvss.v4_estimate("CVSS:4.0/" + vector)
    assert estimate is not None
    assert severity.of_score(estimate).rank >= severity.of_score(published).rank


def test_more_harm_is_never_a_lower_estimate() -> None:
    for v, s in itertools.product(itertools.product("NLH", repeat=2), repeat=2):
        vector = "CVSS:4.0/AV:L/AC:H/AT:P/PR:L/UI:P/VC:{}/VI:{}/VA:N/SC:{}/SI:{}/SA:N"
        estimate = cvss.v4_estimate(vector.format(*v, *s))
        worse = cvss.v4_estimate(vector.format("H", v[1], *s))
        assert estimate is not None
        assert worse is not None
        assert worse >= estimate


@given(st.text(max_size=60) | st.text(alphabet="CVSS:3.1/4AVNLPRUIH0", max_size=80).map("CVSS:3.1/".__add__))
def test_any_text_is_a_score_or_none(text: str) -> None:
    for scored in (cvss.v2(text), cvss.v3(text), cvss.v4_estimate(text)):
        assert scored is None or 0.0 <= scored <= 10.0


V3 = {"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}
V4 = {"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}
V2 = {"type": "CVSS_V2", "score": "AV:N/AC:L/Au:N/C:C/I:C/A:C"}
WORD = {"database_specific": {"severity": "MODERATE"}}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"severity": [V4, V3, V2], **WORD}, Severity(Level.HIGH, 7.5, "CVSS_V3")),
        ({"severity": [V4, V2], **WORD}, Severity(Level.MEDIUM, None, "database_specific.severity")),
        ({"severity": [V4, V2]}, Severity(Level.CRITICAL, None, "CVSS_V4, estimated")),
        ({"severity": [V2]}, Severity(Level.HIGH, 10.0, "CVSS_V2")),
        (
            {"severity": [{"type": "Ubuntu", "score": "negligible"}]},
            Severity(Level.LOW, None, "severity.Ubuntu"),
        ),
        ({"severity": [{"type": "CVSS_V3", "score": "high"}, 3], "database_specific": []}, Severity()),
        ({"id": "MAL-2024-1"}, Severity(Level.CRITICAL, None, "a malicious package")),
        ({"severity": "high"}, Severity()),
    ],
)
def test_where_a_record_says_it(record: dict[str, Any], told: Severity) -> None:
    assert severity.of_record(record) == told


def test_what_is_said_for_one_package() -> None:
    whole = Severity(Level.CRITICAL, 9.8, "CVSS_V3")

    def urgency(word: str) -> Severity | None:
        return severity.of_affected({"ecosystem_specific": {"urgency": word}})

    assert urgency("not yet assigned") is None
    assert severity.for_package(whole, None) is whole
    assert severity.for_package(whole, urgency("low**")) is whole
    assert severity.for_package(Severity(), urgency("medium")).level is Level.MEDIUM
    assert severity.for_package(whole, urgency("unimportant")).level is Level.LOW
    own = severity.of_affected({"severity": [V3]})
    assert severity.for_package(whole, own).score == 7.5
