"""Manifests that JSON allows and nothing could store."""

from __future__ import annotations

import json

import pytest

from slipway.errors import Invalid
from slipway.oci import MediaType
from slipway.oci.manifest import parse_manifest

DIGEST = "sha256:" + "0" * 64


def manifest(**values: object) -> bytes:
    config = {"mediaType": MediaType.OCI_CONFIG, "digest": DIGEST, "size": 2}
    whole = {
        "schemaVersion": 2,
        "mediaType": MediaType.OCI_MANIFEST,
        "config": config,
        "layers": [],
        **values,
    }
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    "data",
    [
        manifest(artifactType="\ud800"),
        manifest(annotations={"a": "\udfff"}),
        manifest(config={"mediaType": MediaType.OCI_CONFIG, "digest": DIGEST, "size": 10**30}),
        manifest(config={"mediaType": MediaType.OCI_CONFIG, "digest": DIGEST, "size": 1 << 63}),
    ],
)
def test_what_could_not_be_stored_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        parse_manifest(data, MediaType.OCI_MANIFEST)


def test_the_same_without_it_is_fine() -> None:
    assert parse_manifest(manifest(annotations={"a": "ü"}), MediaType.OCI_MANIFEST)
