"""``healthcheck`` and ``depends_on``: when a service is ready, and who waits for it."""

from __future__ import annotations

from slipway.compose import units
from slipway.compose.document import Value
from slipway.compose.fields import parsed, texts
from slipway.compose.model import DependsOn, HealthTest

_TIMES = ("interval", "timeout", "start_period", "start_interval")


def depends_on(value: Value) -> dict[str, DependsOn]:
    if not value.is_mapping:
        return {name: DependsOn() for name in texts(value)}
    found = {}
    for name, item in value.items():
        parts = item.fields({"condition", "required"}, {"restart"})
        condition = "service_started"
        if "condition" in parts:
            condition = parts["condition"].choice(
                "service_started", "service_healthy", "service_completed_successfully"
            )
        found[name] = DependsOn(condition, parts["required"].boolean() if "required" in parts else True)
    return found


def healthcheck(value: Value) -> HealthTest:
    found = value.fields({"test", "retries", "disable", *_TIMES})
    if "disable" in found and found["disable"].boolean():
        return HealthTest(("NONE",))
    if "test" not in found:
        raise value.fail(f"{value.path} needs a test", 'e.g. test: ["CMD", "curl", "-f", "http://localhost"]')
    item = found["test"]
    test = texts(item) if item.is_list else ("CMD-SHELL", item.text())
    if test != ("NONE",) and (len(test) < 2 or test[0] not in ("CMD", "CMD-SHELL") or not test[1]):
        raise item.fail("a test starts with CMD or CMD-SHELL and a command, or is NONE")
    if test[0] == "CMD-SHELL" and len(test) > 2:
        raise item.fail("CMD-SHELL takes one text")
    times = {key: parsed(found[key], units.duration) for key in _TIMES if key in found}
    for key in ("interval", "timeout", "start_interval"):
        if times.get(key) == 0:
            raise found[key].fail(f"{found[key].path} must be more than 0")
    retries = found["retries"].integer() if "retries" in found else 3
    if retries < 1:
        raise found["retries"].fail(f"{found['retries'].path} must be 1 or more")
    return HealthTest(test, retries=retries, **times)
