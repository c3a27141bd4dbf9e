"""When a container that ended is started again: Docker's rules."""

from __future__ import annotations

from slipway.runtime.record import Container

_FIRST, _LONGEST, _STABLE = 0.1, 60.0, 10.0


def delay_before_restart(container: Container, exit_code: int, attempts: int) -> float | None:
    """Seconds to wait before the next start; ``None`` when there is none. ``attempts`` since it last ran stably."""
    policy = container.spec.restart
    if not container.wanted or policy.mode == "no":
        return None
    if policy.mode == "on-failure" and (
        exit_code == 0 or (policy.max_retries and container.restarts >= policy.max_retries)
    ):
        return None
    return min(_FIRST * 2.0 ** min(attempts, 20), _LONGEST)


def goes_on(container: Container) -> bool:
    """Whether it runs, or is about to be started again by itself."""
    return container.running or delay_before_restart(container, container.exit_code or 0, 0) is not None


def ran_stably(container: Container) -> bool:
    """Whether its last run was long enough to forget earlier failures."""
    return container.finished - container.started >= _STABLE
