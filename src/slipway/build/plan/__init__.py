"""From a parsed Dockerfile to what must be done: needed stages, and each instruction as an operation. No I/O.

``stages`` resolves names and leaves out what the target does not need. ``lower`` turns one instruction into an
operation on a stage's state; it is driven step by step, because what ``$VARIABLE`` means depends on the configuration
so far, and that on the base image.
"""

from slipway.build.plan.lower import lower
from slipway.build.plan.operations import (
    ConfigOp,
    CopyOp,
    FromContext,
    FromImage,
    FromStage,
    Operation,
    RunOp,
    StageState,
    WorkdirOp,
)
from slipway.build.plan.stages import BuildPlan, StagePlan, plan

__all__ = [
    "BuildPlan",
    "ConfigOp",
    "CopyOp",
    "FromContext",
    "FromImage",
    "FromStage",
    "Operation",
    "RunOp",
    "StagePlan",
    "StageState",
    "WorkdirOp",
    "lower",
    "plan",
]
