"""``from=``: the context, one given by name, a stage, or an image."""

from __future__ import annotations

from slipway.build.plan.lowering import Lowering
from slipway.build.plan.operations import FromContext, FromImage, FromNamed, FromStage, Source
from slipway.build.plan.stages import stage_of
from slipway.errors import Invalid
from slipway.oci import Reference


def source_of(at: Lowering, text: str) -> Source:
    """What ``text`` names, which is empty for the context. Raises ``DockerfileError``."""
    if not text:
        return FromContext()
    if text.lower() in at.plan.contexts:
        image = at.plan.contexts[text.lower()]
        return FromNamed(text.lower()) if image is None else FromImage(image)
    stage = stage_of(text, at.plan.names, at.stage, at.instruction)
    if stage is not None:
        if stage not in at.plan.stages:
            # Only a trigger of a base image can ask for a stage that nothing in the file needs.
            raise at.fail(f"the stage {text!r} is used by a trigger of the base image only", text)
        return FromStage(stage)
    try:
        return FromImage(Reference.parse(text))
    except Invalid as error:
        raise at.fail(error.message, text, error.hint) from error
