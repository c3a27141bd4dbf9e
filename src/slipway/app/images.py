"""Builds and look-ups of images for one caller: the registry behind the build room's and delivery's interfaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from slipway.access import Access, Identity, Permission
from slipway.app.cache_images import OwnersCaches
from slipway.base.progress import Progress
from slipway.build.base_images import BaseImage
from slipway.build.cache_images import CacheContent, CacheSource
from slipway.build.jobs import BuildJobs
from slipway.build.making import JobRequest
from slipway.build.request import Built, SolveRequest
from slipway.content import holding
from slipway.delivery.builder import BuildOrder, ImageRef
from slipway.distribution import Login, RemoteRegistry, pull
from slipway.errors import NotFound
from slipway.oci import Digest, Platform, Reference
from slipway.registry import Registry, ResolvedImage
from slipway.registry.gate import PullGate
from slipway.snapshots import LayerRef

LIBRARY = "library"
_PULL_LEASE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class OwnersImages:
    """The images that ``owner`` may pull: ``PROJECT/NAME``, or a plain name in the project ``library``.

    An image that its project's policy lets nobody pull is refused here for the same reason (``Denied``).

    What was once fetched from another registry stays as it was then, unless ``refresh`` says to ask there again. What
    took one of the ``logins`` (by host) is kept in ``project``, where only its members see it.
    """

    registry: Registry
    access: Access
    gate: PullGate
    owner: Identity
    refresh: bool = False
    logins: Mapping[str, Login] = field(default_factory=dict)
    project: str = ""

    async def resolve(self, reference: Reference, platform: Platform) -> BaseImage:
        found = await self.find(reference, platform)
        layers = tuple(
            LayerRef(diff_id, blob)
            for diff_id, blob in zip(found.config.diff_ids, found.manifest.layers, strict=True)
        )
        return BaseImage(found.digest, found.config, layers)

    async def find(self, reference: Reference, platform: Platform) -> ResolvedImage:
        if reference.registry:
            return await self._pulled(reference, platform)
        name = reference.repository if "/" in reference.repository else f"{LIBRARY}/{reference.repository}"
        local = Reference(name, "", reference.tag, reference.digest)
        try:
            await self.access.require(self.owner, name.partition("/")[0], Permission.PULL)
            found = await self.registry.resolve(local, platform)
        except NotFound as error:
            hint = (
                f"`slipway image base {reference}` makes it"
                if name.startswith(f"{LIBRARY}/debian")
                else ("push it to this registry first")
            )
            raise NotFound(f"the image {reference} is not in this registry", hint=hint) from error
        await self.gate.check_image(name, found.digest, found.manifest)
        return found

    async def find_cache(self, reference: Reference) -> CacheSource:
        return await self._caches.find_cache(reference)

    async def store_cache(self, reference: Reference, content: CacheContent) -> None:
        await self._caches.store_cache(reference, content)

    @property
    def _caches(self) -> OwnersCaches:
        return OwnersCaches(self.registry, self.access, self.owner, self.logins)

    async def _pulled(self, reference: Reference, platform: Platform) -> ResolvedImage:
        """An image of another registry: fetched anonymously it is kept below the public project ``library``."""
        host = re.sub(r"[^a-z0-9]+", "-", reference.registry.lower()).strip("-")
        login = self.logins.get(reference.registry)
        owner = self.project if login and self.project else LIBRARY
        repository = f"{owner}/{host}/{reference.repository}"
        tag = _kept_as(reference, platform)
        if not self.refresh:
            with suppress(NotFound):
                return await self.registry.resolve(Reference(repository, tag=tag), platform)
        blobs = self.registry.blobs
        async with RemoteRegistry(reference.registry, login) as remote:
            async with holding(blobs, f"pull {reference}", ttl=_PULL_LEASE) as lease:
                found = await pull(remote, reference, platform, blobs, lease)
                await self.registry.adopt_image(repository, tag, found.data, found.manifest)
        return ResolvedImage(repository, found.digest, found.manifest, found.config)


def _kept_as(reference: Reference, platform: Platform) -> str:
    """The tag of a pulled image here: its own, with the platform's name behind it unless that is this machine's."""
    tag = f"at-{reference.digest.hex}" if reference.digest else reference.tag or "latest"
    return tag if platform == Platform.host() else f"{tag[:90]}-{str(platform).replace('/', '-')}"


class RegistryBuilder:
    """``slipway.delivery.Builder`` over the build jobs and the registry."""

    def __init__(self, jobs: BuildJobs, registry: Registry, access: Access, gate: PullGate) -> None:
        self._jobs = jobs
        self._gate = gate
        self._registry = registry
        self._access = access

    async def build(self, order: BuildOrder, owner: Identity, progress: Progress) -> Built:
        assert order.service.build is not None
        wanted = order.service.build
        context = (order.source / wanted.context).resolve()
        if not context.is_relative_to(order.source.resolve()):
            raise NotFound(f"the build context {wanted.context!r} lies outside the app's source")
        repository = f"{order.project}/{order.app}-{order.service.name}"
        solve = SolveRequest(
            "", context, wanted.dockerfile, wanted.inline, wanted.target, wanted.args, wanted.labels,
            no_cache=order.no_cache,
        )  # fmt: skip
        request = JobRequest(order.project, order.app, order.service.name, owner.name, repository, [], solve)
        built = await self._jobs.run(request, self._images(owner), progress)
        stored = await self._registry.get_manifest(repository, str(built.digest))
        await self._gate.check(repository, stored)
        return built

    def _images(self, owner: Identity) -> OwnersImages:
        return OwnersImages(self._registry, self._access, self._gate, owner)

    async def tag(self, image: ImageRef, tag: str) -> ImageRef:
        repository = Reference.parse(image.reference).repository
        await self._registry.tag(repository, Digest.parse(image.digest), tag)
        return ImageRef(f"{repository}:{tag}", image.digest)

    async def resolve(self, reference: Reference, owner: Identity) -> ImageRef:
        found = await self._images(owner).find(reference, Platform.host())
        return ImageRef(f"{found.repository}:{reference.tag or 'latest'}", str(found.digest))
