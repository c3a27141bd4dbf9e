"""Health and restarts: decisions without a container."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.runtime import Container, ContainerSpec, HealthCheck, RestartPolicy
from slipway.runtime.health import HealthState
from slipway.runtime.restart import delay_before_restart, ran_stably

CHECK = HealthCheck(("true",), interval=30, retries=3, start_period=10, start_interval=5)


def ended(mode: str, *, restarts: int = 0, max_retries: int = 0, wanted: bool = True) -> Container:
    policy = RestartPolicy(mode, max_retries)  # type: ignore[arg-type]
    spec = ContainerSpec("c", "i", "", ("true",), restart=policy)
    return Container("c", spec, "exited", restarts=restarts, wanted=wanted)


def test_failures_of_the_start_period_do_not_count() -> None:
    state = HealthState(CHECK)
    assert [state.result(False, age) for age in (1, 2, 3, 9)] == ["starting"] * 4
    assert [state.result(False, age) for age in (11, 12, 13)] == ["starting", "starting", "unhealthy"]


def test_a_success_ends_the_start_period_and_clears_failures() -> None:
    state = HealthState(CHECK)
    assert state.result(True, 1) == "healthy"
    assert [state.result(False, 2), state.result(False, 3)] == ["healthy", "healthy"]
    assert state.result(True, 4) == "healthy"
    assert [state.result(False, 5) for _ in range(3)] == ["healthy", "healthy", "unhealthy"]
    assert state.result(True, 6) == "healthy"


def test_probes_are_close_at_first_and_then_at_the_interval() -> None:
    state = HealthState(CHECK)
    waits = []
    for age in range(8):
        state.result(False, age)
        waits.append(state.wait(age))
    assert waits[0] == 0.05
    assert waits == sorted(waits)
    assert max(waits) <= 1.0
    state.result(True, 9)
    assert state.wait(9) == 30


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30))
def test_unhealthy_needs_as_many_failures_in_a_row_as_retries(results: list[tuple[bool, float]]) -> None:
    state, failures = HealthState(CHECK), 0
    for ok, age in results:
        before = state.status
        after = state.result(ok, age)
        failures = 0 if ok or (before == "starting" and age < CHECK.start_period) else failures + 1
        assert after != "unhealthy" or failures >= CHECK.retries
        assert after == "healthy" or not ok
        assert 0 < state.wait(age) <= CHECK.interval


@pytest.mark.parametrize(
    ("mode", "code", "again"),
    [
        ("no", 1, False),
        ("always", 0, True),
        ("unless-stopped", 0, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
    ],
)
def test_dockers_restart_rules(mode: str, code: int, again: bool) -> None:
    assert (delay_before_restart(ended(mode), code, 0) is not None) == again


def test_what_was_stopped_stays_stopped() -> None:
    assert delay_before_restart(ended("always", wanted=False), 1, 0) is None


def test_on_failure_gives_up_after_its_retries() -> None:
    assert delay_before_restart(ended("on-failure", restarts=1, max_retries=2), 1, 0) is not None
    assert delay_before_restart(ended("on-failure", restarts=2, max_retries=2), 1, 0) is None


def test_restarts_wait_twice_as_long_each_time_up_to_a_minute() -> None:
    waits = [delay_before_restart(ended("always"), 1, attempt) or 0 for attempt in range(40)]
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waits) == waits[-1] == 60


def test_ten_seconds_count_as_stable() -> None:
    container = ended("always")
    container.started, container.finished = 100, 109.9
    assert not ran_stably(container)
    container.finished = 110
    assert ran_stably(container)
