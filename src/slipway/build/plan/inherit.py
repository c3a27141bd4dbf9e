"""What a stage built on another one does first."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.build.dockerfile import Instruction, Location


@dataclass(frozen=True, slots=True)
class ForgetTriggers:
    """Not written by anybody: the ONBUILD triggers that come with the base are run now, and not again."""

    location: Location
    original: str


Step = Instruction | ForgetTriggers
