"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# A machine may be slow, and that is no failure.
settings.register_profile(
    "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """For `.ci/run`: tests that failed may be asked again, a run that broke off may not."""
    if (cache := getattr(session.config, "cache", None)) is not None:
        cache.set("slipway/ended", int(exitstatus))
