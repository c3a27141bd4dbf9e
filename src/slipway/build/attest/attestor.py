"""Everything a finished build leaves about itself, into the registry; and what an image has, out of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from slipway.base.clock import iso, now
from slipway.build.attest import provenance as slsa
from slipway.build.attest import spdx
from slipway.build.attest.inventory import Inventories
from slipway.build.attest.project_keys import ProjectKeys
from slipway.build.attest.provenance import Provenance
from slipway.build.attest.referrers import (
    DSSE,
    PREDICATE,
    SIGNATURE,
    SIGNATURE_TYPE,
    SIMPLE_SIGNING,
    Document,
    Referrer,
    cosign_tag,
    referrer,
)
from slipway.build.attest.signing import (
    envelope,
    opened,
    sign,
    simple_signing,
    verified,
    vouches_for,
)
from slipway.errors import NotFound
from slipway.oci import Descriptor, Digest, Manifest
from slipway.snapshots import LayerRef

MAX_DOCUMENT = 64 * 1024 * 1024
_MAX_SIGNED = 64 * 1024  # what a signature is made over: it names an image and little else


class Shelf(Protocol):
    """Where referrers are; the registry is one."""

    async def store_referrers(self, repository: str, found: Sequence[Referrer]) -> None: ...

    async def has_referrer(self, repository: str, subject: Digest, artifact_type: str) -> bool: ...

    async def referrer_manifests(self, repository: str, subject: Digest) -> list[tuple[Digest, Manifest]]: ...

    async def read_document(self, repository: str, digest: Digest, limit: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Attested:
    """What is known of an image. ``signed``: by the project's key; statements count only if they are, too."""

    signed: bool = False
    provenance: dict[str, Any] | None = None
    packages: list[str] | None = None
    others: list[str] = field(default_factory=list)


class Attestations:
    """Reads the documents of images."""

    def __init__(self, keys: ProjectKeys, shelf: Shelf) -> None:
        self.keys = keys
        self._shelf = shelf

    async def sbom(self, repository: str, digest: Digest) -> bytes:
        """The SPDX document of an image. Raises ``NotFound``."""
        for _, manifest in await self._shelf.referrer_manifests(repository, digest):
            if manifest.artifact_type == spdx.MEDIA_TYPE and manifest.layers:
                return await self._shelf.read_document(repository, manifest.layers[0].digest, MAX_DOCUMENT)
        raise NotFound(
            f"{repository}@{digest} has no SBOM", hint="a build here makes one; pushed images have none"
        )

    async def signed(self, repository: str, project: str, digest: Digest) -> bool:
        """Whether the project's key has signed the image. Asked with each pull: nothing else about it is opened."""
        private = await self.keys.find(project)
        if private is None:
            return False
        for _, manifest in await self._shelf.referrer_manifests(repository, digest):
            for layer in manifest.layers:
                if await self._is_signature(private.public_key(), repository, layer, digest):
                    return True
        return False

    async def _is_signature(
        self, key: ec.EllipticCurvePublicKey, repository: str, layer: Descriptor, digest: Digest
    ) -> bool:
        if layer.media_type != SIMPLE_SIGNING or layer.size > _MAX_SIGNED or layer.urls:
            return False
        data = await self._shelf.read_document(repository, layer.digest, _MAX_SIGNED)
        return verified(key, data, layer.annotations.get(SIGNATURE, "")) and vouches_for(data, digest)

    async def attested(self, repository: str, project: str, digest: Digest) -> Attested:
        """What the project's key vouches for; anything else is only named."""
        private = await self.keys.find(project)
        key = private.public_key() if private is not None else None
        signed, others = False, []
        statements: dict[str, dict[str, Any]] = {}
        for _, manifest in await self._shelf.referrer_manifests(repository, digest):
            known = False
            for layer in manifest.layers:
                if layer.media_type not in (SIMPLE_SIGNING, DSSE) or layer.size > MAX_DOCUMENT or layer.urls:
                    continue
                if key is None:  # nothing was ever signed with it
                    continue
                if layer.media_type == SIMPLE_SIGNING:
                    ours = await self._is_signature(key, repository, layer, digest)
                    signed, known = signed or ours, known or ours
                    continue
                data = await self._shelf.read_document(repository, layer.digest, MAX_DOCUMENT)
                if (statement := opened(key, data)) is not None and _about(statement, digest):
                    statements[str(statement.get("predicateType"))] = statement.get("predicate") or {}
                    known = True
            if not known and manifest.artifact_type != spdx.MEDIA_TYPE:
                others.append(manifest.artifact_type or manifest.config.media_type)
        sbom = statements.get(spdx.PREDICATE_TYPE)
        packages = _packages(sbom) if sbom is not None else None
        return Attested(signed, statements.get(slsa.PREDICATE_TYPE), packages, sorted(others))


class Attestor(Attestations):
    """Makes the documents of a server's images."""

    def __init__(self, inventories: Inventories, keys: ProjectKeys, shelf: Shelf) -> None:
        super().__init__(keys, shelf)
        self.inventories = inventories

    async def attest(
        self, repository: str, image: Descriptor, layers: Sequence[LayerRef], told: Provenance
    ) -> None:
        """SBOM, provenance and signature of ``image``, unless it has them: they would say the same."""
        if await self._shelf.has_referrer(repository, image.digest, SIGNATURE_TYPE):
            return
        key = await self.keys.of(told.project)
        made = await asyncio.to_thread(self._documents, key, repository, image, layers, told)
        await self._shelf.store_referrers(repository, made)

    def _documents(
        self, key: ec.EllipticCurvePrivateKey, repository: str, image: Descriptor, layers: Sequence[LayerRef],
        told: Provenance,
    ) -> list[Referrer]:  # fmt: skip
        packages, notes = self.inventories.image(layers)
        sbom = spdx.document(repository, image.digest, packages, notes, told.finished)
        statements = (
            slsa.statement(repository, image.digest, spdx.PREDICATE_TYPE, sbom),
            slsa.statement(repository, image.digest, slsa.PREDICATE_TYPE, told.predicate()),
        )
        sealed = [
            Document(DSSE, envelope(key, item), {PREDICATE: item["predicateType"]}) for item in statements
        ]
        plain = Document(
            spdx.MEDIA_TYPE, spdx.encoded(sbom), {"org.opencontainers.image.title": "sbom.spdx.json"}
        )
        subject, when = Descriptor(image.media_type, image.digest, image.size), told.finished
        return [
            referrer(subject, spdx.MEDIA_TYPE, [plain], when),
            referrer(subject, DSSE, sealed, when, cosign_tag(image.digest, "att")),
            _signature(key, repository, subject, when),
        ]

    async def sign(self, repository: str, project: str, image: Descriptor) -> None:
        """A signature alone, for an index of images that have the rest themselves."""
        key = await self.keys.of(project)
        await self._shelf.store_referrers(repository, [_signature(key, repository, image, iso(now()))])


def _signature(key: ec.EllipticCurvePrivateKey, repository: str, image: Descriptor, when: str) -> Referrer:
    payload = simple_signing(repository, image.digest)
    document = Document(SIMPLE_SIGNING, payload, {SIGNATURE: sign(key, payload)})
    subject = Descriptor(image.media_type, image.digest, image.size)
    return referrer(subject, SIGNATURE_TYPE, [document], when, cosign_tag(image.digest, "sig"))


def _about(statement: dict[str, Any], digest: Digest) -> bool:
    subjects = statement.get("subject")
    return isinstance(subjects, list) and any(
        isinstance(item, dict) and (item.get("digest") or {}).get(digest.algorithm) == digest.hex
        for item in subjects
    )


def _packages(sbom: dict[str, Any]) -> list[str]:
    """The purls of what is in the image."""
    found = []
    for item in sbom.get("packages") or []:
        for reference in item.get("externalRefs") or []:
            if reference.get("referenceType") == "purl" and not reference["referenceLocator"].startswith(
                "pkg:oci/"
            ):
                found.append(str(reference["referenceLocator"]))
    return sorted(found)
