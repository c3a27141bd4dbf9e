"""What builds and deliveries may use: what their caller could pull, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from slipway.access import Access, Identity, Role, Vault
from slipway.app.images import OwnersImages
from slipway.build.attest import Inventories, attestor
from slipway.build.attest.attestor import Attestor
from slipway.build.attest.project_keys import ProjectKeys
from slipway.build.attest.referrers import DSSE, SIMPLE_SIGNING, Referrer
from slipway.content import LocalStore
from slipway.errors import Denied, NotFound
from slipway.oci import Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Reference
from slipway.registry import Registry
from slipway.registry.findings import Advisories
from slipway.registry.gate import PullGate
from slipway.state import Database
from slipway.testing.pushing import described, image, index, pushed

HERE = Platform.host()


@dataclass(slots=True)
class House:
    registry: Registry
    access: Access
    attestor: Attestor
    gate: PullGate

    async def images(self, name: str) -> OwnersImages:
        return OwnersImages(self.registry, self.access, self.gate, await self.who(name))

    async def who(self, name: str) -> Identity:
        return await self.access.authenticate(name, "correct horse")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    access = Access(database, tmp_path / "keys")
    blobs = LocalStore(tmp_path / "content")
    registry = Registry(database, blobs)
    access.on_policy.append(registry.rules.forget)
    keys = ProjectKeys(database, Vault(tmp_path / "keys"))
    made = Attestor(Inventories(tmp_path / "inventories", blobs), keys, registry.documents)
    gate = PullGate(database, registry.rules, made, Advisories(tmp_path / "advisories.sqlite"))
    for name in ("demo", "private"):
        await access.create_project(name)
    await access.create_user("dev", "correct horse")
    await access.set_member("demo", "dev", Role("developer"))
    for name in ("demo/base", "private/base"):
        await registry.store_image(name, ["1"], ImageConfig(HERE, (), {"Cmd": [name]}), [])
    yield House(registry, access, made, gate)
    await database.dispose()


async def test_an_image_without_a_signature_is_built_upon_and_delivered_no_more_than_it_is_pulled(
    house: House,
) -> None:
    images = await house.images("dev")
    reference = Reference.parse("demo/base:1")
    assert (await images.resolve(reference, HERE)).digest
    await house.access.set_policy("demo", "registry", {"require_signature": True})
    stored = await house.registry.get_manifest("demo/base", "1")
    with pytest.raises(Denied) as pulled:
        await house.gate.check("demo/base", stored)
    for use in (images.resolve, images.find):
        with pytest.raises(Denied) as used:
            await use(reference, HERE)
        assert used.value.message == pulled.value.message
    descriptor = await house.registry.store_image(
        "demo/base", ["1"], ImageConfig(HERE, (), {"Cmd": ["demo/base"]}), []
    )
    await house.attestor.sign("demo/base", "demo", descriptor)
    assert (await images.find(reference, HERE)).digest == stored.digest


async def test_an_image_that_says_it_is_about_another_needs_a_signature_all_the_same(house: House) -> None:
    base = (await house.registry.get_manifest("demo/base", "1")).digest
    subject = await described(house.registry, "demo/base", base)
    await image(house.registry, "demo/base", "2", subject=subject)
    await house.access.set_policy("demo", "registry", {"require_signature": True})
    with pytest.raises(Denied, match="is not signed"):
        await house.gate.check("demo/base", await house.registry.get_manifest("demo/base", "2"))
    about = Referrer(
        Manifest(Descriptor(MediaType.OCI_CONFIG, Digest.of(b"{}"), 2), (), subject=subject), (b"{}",)
    )
    await house.registry.documents.store_referrers("demo/base", [about])
    named = str(Digest.of(about.manifest.to_bytes()))
    await house.gate.check("demo/base", await house.registry.get_manifest("demo/base", named))


async def test_what_else_is_said_about_a_signed_image_keeps_nobody_from_pulling_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = house.registry
    stored = await registry.get_manifest("demo/base", "1")
    subject = await described(registry, "demo/base", stored.digest)
    config = await pushed(registry, "demo/base", b"{}")
    document = await pushed(registry, "demo/base", b"a document")
    foreign = Descriptor(SIMPLE_SIGNING, Digest.of(b"?"), 1, urls=("https://example.org/signature",))
    for layer in (replace(document, media_type=DSSE), foreign):
        data = Manifest(config, (layer,), subject=subject).to_bytes()
        await registry.put_manifest("demo/base", str(Digest.of(data)), data, MediaType.OCI_MANIFEST)
    gone = await image(registry, "demo/base", "")
    listed = str(stored.digest).replace(":", "-")
    await index(registry, "demo/base", listed, await described(registry, "demo/base", gone))
    registry.blobs.delete(gone)
    await house.attestor.sign("demo/base", "demo", subject)
    await house.access.set_policy("demo", "registry", {"require_signature": True})
    monkeypatch.setattr(attestor, "opened", None)  # documents may be long
    await house.gate.check("demo/base", stored)


async def test_what_is_not_known_to_be_free_of_findings_is_not_built_upon(house: House) -> None:
    images = await house.images("dev")
    await house.access.set_policy("demo", "registry", {"block_severity": "high"})
    with pytest.raises(NotFound, match="no advisories"):
        await images.resolve(Reference.parse("demo/base:1"), HERE)


async def test_an_image_of_another_project_is_not_there(house: House) -> None:
    with pytest.raises(NotFound):
        await (await house.images("dev")).resolve(Reference.parse("private/base:1"), HERE)
