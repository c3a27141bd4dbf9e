"""One instruction and a state become one operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slipway.build.dockerfile import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from slipway.build.plan import copying, metadata, running
from slipway.build.plan.inherit import ForgetTriggers, Step
from slipway.build.plan.lowering import Lowering
from slipway.build.plan.operations import Operation, StageState
from slipway.build.plan.stages import BuildPlan


def lower(instruction: Step, state: StageState, plan: BuildPlan, stage: int) -> Operation:
    """The operation ``instruction`` is in ``state``; ``stage`` is the index of the stage it stands in.

    Raises ``DockerfileError`` for values that make no sense and for what is not supported yet.
    """
    return _LOWERINGS[type(instruction)](Lowering(instruction, state, plan, stage, state.values), instruction)


def _from(at: Lowering, item: From) -> Operation:
    raise at.fail("FROM cannot stand inside a stage")


_LOWERINGS: Mapping[type, Callable[[Lowering, Any], Operation]] = {
    Arg: metadata.arg,
    Cmd: metadata.cmd,
    Copy: copying.copy,
    Entrypoint: metadata.entrypoint,
    Env: metadata.env,
    Expose: metadata.expose,
    ForgetTriggers: metadata.forget_triggers,
    From: _from,
    Healthcheck: metadata.healthcheck,
    Label: metadata.label,
    Maintainer: metadata.maintainer,
    Onbuild: metadata.onbuild,
    Run: running.run,
    Shell: metadata.shell,
    Stopsignal: metadata.stopsignal,
    User: metadata.user,
    Volume: metadata.volume,
    Workdir: copying.workdir,
}
