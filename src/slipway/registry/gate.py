"""Whether an image may be pulled: what its project's policy says of signatures and findings."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from typing import Protocol

from sqlalchemy import select

from slipway.errors import Denied, Invalid, NotFound
from slipway.oci import Digest, Index, Manifest, parse_manifest
from slipway.registry.findings import Advisories, Matches, match_document
from slipway.registry.manifests import StoredManifest
from slipway.registry.policy import SEVERITIES
from slipway.registry.projects import ProjectRules
from slipway.registry.repositories import project_of
from slipway.state import Database
from slipway.state.tables import Manifest as Row
from slipway.state.tables import ManifestReference, Repository

_MOST_KNOWN = 2000
_IMAGES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")


class Documents(Protocol):
    """What is said about images; ``slipway.build.attest`` reads it."""

    async def signed(self, repository: str, project: str, digest: Digest) -> bool:
        """Whether the project's key has signed the image."""
        ...

    async def sbom(self, repository: str, digest: Digest) -> bytes:
        """The SPDX document of an image. Raises ``NotFound``."""
        ...


class PullGate:
    """Asked before an image is handed out, built upon or delivered. What is no image (a chart, a signature) passes."""

    def __init__(
        self, database: Database, rules: ProjectRules, documents: Documents, advisories: Advisories
    ) -> None:
        self._database = database
        self._rules = rules
        self._documents = documents
        self._advisories = advisories
        self._known: OrderedDict[tuple[str, str], Matches] = OrderedDict()

    async def check(self, repository: str, stored: StoredManifest) -> None:
        """Raises ``Denied`` with the reason."""
        policy = (await self._rules.of(project_of(repository))).policy
        if policy.require_signature or policy.block_severity:  # most do not: nothing is parsed
            await self.check_image(repository, stored.digest, parse_manifest(stored.data, stored.media_type))

    async def check_image(self, repository: str, digest: Digest, manifest: Manifest | Index) -> None:
        """The same for who has parsed the manifest already: builds and deliveries."""
        policy = (await self._rules.of(project_of(repository))).policy
        if not policy.require_signature and not policy.block_severity:
            return
        if not _is_image(manifest):
            return
        if policy.require_signature:
            await self._check_signed(repository, digest)
        if policy.block_severity and isinstance(manifest, Manifest):
            await self._check_findings(repository, digest, policy.block_severity)

    async def _check_signed(self, repository: str, digest: Digest) -> None:
        """By itself, or as a part of an index that is."""
        project = project_of(repository)
        for item in (digest, *await self._above(repository, digest)):
            if await self._documents.signed(repository, project, item):
                return
        raise Denied(
            f"{repository}@{digest} is not signed with the key of {project!r}, and only signed images can be pulled",
            hint=f"build it here, or sign it with the key of slipway project signing-key {project}",
        )

    async def _above(self, repository: str, digest: Digest) -> list[Digest]:
        query = (
            select(Row.digest)
            .join(ManifestReference, ManifestReference.manifest_id == Row.id)
            .join(Repository, Repository.id == Row.repository_id)
            .where(
                Repository.name == repository, ManifestReference.digest == str(digest), Row.deleted.is_(None)
            )
        )
        async with self._database.read() as session:
            return [Digest.parse(text) for text in await session.scalars(query.limit(20))]

    async def _check_findings(self, repository: str, digest: Digest, level: str) -> None:
        """What is not known to be free of such findings does not pass."""
        matches = await self.findings(repository, digest)
        least = SEVERITIES.index(level)
        bad = [item for item in matches.findings if _rank(item.severity.level) >= least]
        if bad:
            some = ", ".join(f"{item.id} in {item.package} {item.version}" for item in bad[:3])
            raise Denied(
                f"{repository}@{digest} has {len(bad)} findings of {level} severity or above: {some}",
                hint=f"slipway image findings {repository}@{digest} lists them with the versions that are fixed",
            )

    async def findings(self, repository: str, digest: Digest) -> Matches:
        """What the advisories know of the image's packages. Raises ``NotFound`` without an SBOM or any advisories."""
        updated = await asyncio.to_thread(lambda: self._advisories.updated)
        if updated is None:
            raise NotFound(
                "there are no advisories here", hint="slipway advisories import FILE, from osv.dev"
            )
        sbom = await self._documents.sbom(repository, digest)
        key = (hashlib.sha256(sbom).hexdigest(), updated.isoformat())
        if (known := self._known.get(key)) is not None:
            return known
        try:
            document = json.loads(sbom)
        except ValueError as error:
            raise Invalid(f"the SBOM of {repository}@{digest} is no JSON") from error
        found = await asyncio.to_thread(match_document, document, self._advisories)
        self._known[key] = found
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return found


def _is_image(manifest: Manifest | Index) -> bool:
    if isinstance(manifest, Index):
        return not manifest.artifact_type
    if manifest.config.media_type not in _IMAGES:
        return False
    # What is about an image may be written as if it were one. What has layers to unpack is one, whatever it is about.
    return manifest.subject is None or any(item.media_type.startswith(_LAYERS) for item in manifest.layers)


def _rank(level: str) -> int:
    """Of unknown severity: as if it were the least."""
    return SEVERITIES.index(level) if level in SEVERITIES else 0
