"""The images of a release's services: built or looked up, then tagged with its number."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from slipway.access import Identity
from slipway.base.progress import Progress
from slipway.base.tasks import first_error
from slipway.compose import Project
from slipway.delivery.builder import Builder, BuildOrder, ImageRef
from slipway.delivery.engine import AppRef
from slipway.oci import Reference

Images = dict[str, dict[str, str]]  # by service: its ``reference`` and ``digest``


async def made_images(
    builder: Builder, ref: AppRef, model: Project, source: Path, identity: Identity, progress: Progress,
    no_cache: bool,
) -> Images:  # fmt: skip
    """Every service's image; builds and look-ups run side by side. Raises the first error of them."""

    async def one(name: str) -> tuple[str, ImageRef]:
        service = model.services[name]
        if service.build is None:
            return name, await builder.resolve(Reference.parse(service.image), identity)
        order = BuildOrder(ref.project, ref.name, service, source, no_cache)
        built = await builder.build(order, identity, progress)
        return name, ImageRef(built.reference, str(built.digest))

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in model.services]
    except BaseExceptionGroup as errors:
        raise first_error(errors) from None
    found = dict(task.result() for task in tasks)
    return {name: {"reference": image.reference, "digest": image.digest} for name, image in found.items()}


async def tagged_images(
    builder: Builder, model: Project, images: Mapping[str, Mapping[str, str]], tag: str
) -> Images:
    """What was built for this release carries its number; what was only named keeps its name."""
    found = {}
    for name, image in images.items():
        one = ImageRef(image["reference"], image["digest"])
        if model.services[name].build is not None:
            one = await builder.tag(one, tag)
        found[name] = {"reference": one.reference, "digest": one.digest}
    return found
