"""Releases that are only looked at: what a delivery would be, without building or recording anything."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.access import Identity
from slipway.base.clock import now
from slipway.compose import Project
from slipway.delivery.builder import Builder
from slipway.delivery.images import Images
from slipway.delivery.releases import Release, release_digest
from slipway.errors import Invalid, NotFound
from slipway.oci import Reference

_HUB = "docker.io"


def draft(model: Project, images: Images, number: int, by: str) -> Release:
    return Release(number, model, images, release_digest(model, images), "draft", now(), by)


async def rendered_images(
    builder: Builder, model: Project, given: Mapping[str, str], current: Release | None, identity: Identity
) -> Images:
    """Raises ``Invalid`` for a service that is to be built and was not yet."""
    if unknown := sorted(set(given) - set(model.services)):
        raise Invalid(f"there is no service {unknown[0]!r}", hint=f"there are {', '.join(model.services)}")
    found: Images = {}
    for name, service in model.services.items():
        if name in given:
            found[name] = _as_named(given[name])
        elif service.image and service.build is None:
            try:
                image = await builder.resolve(Reference.parse(service.image), identity)
                found[name] = {"reference": image.reference, "digest": image.digest}
            except NotFound:
                found[name] = _as_named(service.image)
        elif current is not None and name in current.images:
            found[name] = dict(current.images[name])
        else:
            raise Invalid(
                f"{name!r} has no image yet",
                hint=f"deliver the app first, or name one: --image {name}=REGISTRY/NAME",
            )
    return found


def _as_named(text: str) -> dict[str, str]:
    """An image that is not in our registry, under its full name: nobody is to look for it in ours."""
    reference = Reference.parse(text)
    if not reference.registry:
        inside = reference.repository if "/" in reference.repository else f"library/{reference.repository}"
        tag = f":{reference.tag}" if reference.tag else ""
        text = f"{_HUB}/{inside}{tag}"
    return {"reference": text.partition("@")[0], "digest": str(reference.digest or "")}
