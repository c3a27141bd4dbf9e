"""OCI values: what is parsed is valid, what is written is read back equal."""

from __future__ import annotations

import hashlib
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Invalid
from slipway.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    Platform,
    Reference,
    chain_id,
    parse_manifest,
)

digests = st.binary(max_size=40).map(Digest.of)
components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-)[a-z0-9]{1,5})?", fullmatch=True)
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
registries = st.sampled_from(
    ["", "localhost", "localhost:5000", "registry.example.com", "[::1]:5000", "10.0.0.1:80"]
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
annotation_maps = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
descriptors = st.builds(
    Descriptor,
    st.sampled_from([MediaType.OCI_LAYER_GZIP, MediaType.OCI_CONFIG, "x/y"]),
    digests,
    st.integers(0, 2**40),
    annotation_maps,
    st.none() | st.just(Platform("linux", "amd64")),
)


@given(st.one_of(st.text(), st.text("sha256:0123456789abcdef", max_size=80)))
def test_digest_parse_accepts_only_its_own_form(text: str) -> None:
    try:
        assert str(Digest.parse(text)) == text
    except Invalid:
        assert not (
            text.startswith("sha256:")
            and len(text) == 71
            and set(text[7:]) <= set(string.hexdigits.lower()[:16])
        )


@given(st.binary())
def test_digest_of_is_sha256(data: bytes) -> None:
    assert Digest.parse("sha256:" + hashlib.sha256(data).hexdigest()) == Digest.of(data)


def test_digest_constructor_checks_too() -> None:
    for algorithm, value in (
        ("md5", "0" * 32),
        ("sha256", "0" * 63),
        ("sha256", "G" * 64),
        ("sha256", "../" * 21 + "x"),
    ):
        with pytest.raises(Invalid):
            Digest(algorithm, value)


@given(registries, repositories, st.just("") | tags, st.none() | digests)
def test_references_round_trip(registry: str, repository: str, tag: str, digest: Digest | None) -> None:
    first = repository.split("/")[0]
    if not registry and "/" in repository and ("." in first or first == "localhost"):
        return  # Docker's rules read such a first component as a registry.
    reference = Reference(repository, registry, tag, digest)
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_invalid(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except Invalid:
        return
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "a:",
        "a@",
        "UPPER/case",
        "a//b",
        "../etc",
        "a/../b",
        "a:b:c",
        "a@sha256:xyz",
        "-a",
        "a/",
        "x" * 300,
    ],
)
def test_malformed_references_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Reference.parse(text)


@given(descriptors, st.lists(descriptors, max_size=4), annotation_maps)
def test_manifests_round_trip(config: Descriptor, layers: list[Descriptor], notes: dict[str, str]) -> None:
    manifest = Manifest(config, tuple(layers), annotations=notes)
    assert parse_manifest(manifest.to_bytes(), MediaType.OCI_MANIFEST) == manifest
    index = Index(tuple(layers), annotations=notes)
    assert parse_manifest(index.to_bytes()) == index


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"schemaVersion": 2, "layers": [], "manifests": []}, MediaType.OCI_MANIFEST),
        ({"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": []}, MediaType.OCI_MANIFEST),
        ({"schemaVersion": 1}, ""),
        ({"schemaVersion": 2, "mediaType": "text/plain"}, "text/plain"),
        ({"schemaVersion": 2, "config": None, "layers": []}, ""),
        ([], ""),
    ],
)
def test_ambiguous_and_malformed_manifests_are_refused(document: object, content_type: str) -> None:
    with pytest.raises(Invalid):
        parse_manifest(json.dumps(document).encode(), content_type)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "schemaVersion",
                        "layers",
                        "manifests",
                        "config",
                        "mediaType",
                        "digest",
                        "size",
                        "annotations",
                        "rootfs",
                        "diff_ids",
                        "history",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
    )
)
def test_hostile_documents_raise_only_invalid(document: object) -> None:
    data = json.dumps(document).encode()
    for parse in (parse_manifest, ImageConfig.parse):
        try:
            parse(data)
        except Invalid:
            continue


def test_deep_json_is_invalid_not_a_crash() -> None:
    with pytest.raises(Invalid):
        parse_manifest(b"[" * 200_000)


def test_image_config_round_trip_keeps_unknown_fields() -> None:
    config = ImageConfig(
        Platform("linux", "arm64", "v8"), (Digest.of(b"a"),), {"Env": ["A=b=c"], "Future": {"x": 1}}
    )
    again = ImageConfig.parse(config.to_bytes())
    assert again.config["Future"] == {"x": 1}
    assert again.environment == {"A": "b=c"}
    assert again.to_bytes() == config.to_bytes()
    changed = again.with_config(Cmd=["sh"], Env=None)
    assert "Env" not in changed.config
    assert "Cmd" not in again.config


def test_chain_ids_follow_the_specification() -> None:
    one, two = Digest.of(b"1"), Digest.of(b"2")
    assert chain_id([]) is None
    assert chain_id([one]) == one
    assert chain_id([one, two]) == Digest.of(f"{one} {two}".encode())


@pytest.mark.parametrize(
    ("text", "normal"),
    [("amd64", "linux/amd64"), ("linux/x86_64", "linux/amd64"), ("linux/arm64/v8", "linux/arm64")],
)
def test_platforms_are_normalised(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal
