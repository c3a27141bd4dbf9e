"""From a parsed Dockerfile to what must be done: needed stages, and each instruction as an operation. No I/O.

``stages`` resolves names and leaves out what the target does not need; ``scope`` knows which ARG has which value
where. ``lower`` turns one instruction into an operation on a stage's state; it is driven step by step, because what
``$VARIABLE`` means depends on the configuration so far, and that on the base image::

    build = plan(parse(text), target=None, build_args={}, platform=Platform.host())
    state = StageState(config_of_the_base_image)            # or the state that ended the stage it is built on
    for instruction in build.stages[build.target].instructions:
        operation = lower(instruction, state, build, build.target)
        state = operation.state if isinstance(operation, ConfigOp | WorkdirOp) else state

Invariants: values are frozen; nothing but ``DockerfileError`` (and ``NotFound`` for the target) is raised; what the
solver cannot do yet is refused here, with its place, and only where a needed stage asks for it.
"""

from slipway.build.plan.inherit import ForgetTriggers, Step
from slipway.build.plan.lower import lower
from slipway.build.plan.operations import (
    ConfigOp,
    CopyOp,
    FromContext,
    FromImage,
    FromNamed,
    FromStage,
    Operation,
    RunOp,
    Source,
    StageState,
    WorkdirOp,
)
from slipway.build.plan.stages import BuildPlan, StagePlan, plan

__all__ = [
    "BuildPlan",
    "ConfigOp",
    "CopyOp",
    "ForgetTriggers",
    "FromContext",
    "FromImage",
    "FromNamed",
    "FromStage",
    "Operation",
    "RunOp",
    "Source",
    "StagePlan",
    "StageState",
    "Step",
    "WorkdirOp",
    "lower",
    "plan",
]
