"""What every lowering needs: the instruction's values, its expansions, its failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slipway.build.dockerfile import DockerfileError, Location, expand, expand_words
from slipway.build.plan.inherit import Step
from slipway.build.plan.operations import ConfigOp, StageState
from slipway.build.plan.stages import BuildPlan

# A process cannot be started with more than the kernel takes; far fewer is a mistake already.
MAX_ENVIRONMENT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lowering:
    """One instruction in the state it meets. All its words see ``values``, those from before it."""

    instruction: Step
    state: StageState
    plan: BuildPlan
    stage: int
    values: Mapping[str, str]

    @property
    def location(self) -> Location:
        return self.instruction.location

    def fail(self, message: str, word: str = "", hint: str = "") -> DockerfileError:
        return DockerfileError(message, self.location, word=word, hint=hint)

    def unsupported(self, what: str, hint: str = "", word: str = "") -> DockerfileError:
        return self.fail(f"not supported yet: {what}", word or what.partition("=")[0], hint)

    def expand(self, text: str) -> str:
        return expand(text, self.values, lambda why: self.fail(why, text), escape=self.plan.escape)

    def words(self, text: str) -> list[str]:
        return expand_words(text, self.values, lambda why: self.fail(why, text), escape=self.plan.escape)

    def config(self, created_by: str, **fields: Any) -> ConfigOp:
        return ConfigOp(configured(self.state, **fields), created_by, self.location)

    def bounded(self, values: Mapping[str, str], what: str) -> None:
        """Values that double each other from line to line must not fill the memory."""
        if sum(map(len, values)) + sum(map(len, values.values())) > MAX_ENVIRONMENT:
            raise self.fail(f"the {what} of the stage are larger than {MAX_ENVIRONMENT} characters")


def configured(state: StageState, **fields: Any) -> StageState:
    """``state`` with these keys of the configuration set; ``None`` removes one. Nothing is copied that stays."""
    kept = {name: value for name, value in state.config.config.items() if name not in fields}
    changed = {name: value for name, value in fields.items() if value is not None}
    return replace(state, config=replace(state.config, config={**kept, **changed}))


def clean(path: str, workdir: str = "/") -> str:
    """``path`` from ``workdir``, absolute, without ``.``, ``..`` and doubled slashes."""
    done: list[str] = []
    for part in (path if path.startswith("/") else f"{workdir}/{path}").split("/"):
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            done.append(part)
    return "/" + "/".join(done)
