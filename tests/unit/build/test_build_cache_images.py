"""A cache image's configuration, from anybody."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.cache_images import ARTIFACT_TYPE, CONFIG_TYPE, CacheContent
from slipway.build.made import Made
from slipway.errors import Invalid
from slipway.oci import Descriptor, Digest, Manifest, MediaType
from slipway.snapshots import LayerRef

LAYER = LayerRef(Digest.of(b"tar"), Descriptor(MediaType.OCI_LAYER_GZIP, Digest.of(b"gz"), 2))
WHEN = datetime(2024, 1, 2, tzinfo=UTC)
CONTENT = CacheContent(
    {"run:1": Made(LAYER, 10, WHEN), "run:2": Made(None, 0, WHEN)}, {"/root/.cache": LAYER}
)


def _manifest(config: bytes, **values: str) -> Manifest:
    top = Descriptor(values.get("kind", CONFIG_TYPE), Digest.of(config), len(config))
    return Manifest(top, (LAYER.blob,), artifact_type=values.get("artifact", ARTIFACT_TYPE))


def test_what_is_written_is_read() -> None:
    assert CacheContent.parse(CONTENT.manifest(), CONTENT.config()) == CONTENT
    assert CONTENT.manifest().layers == (LAYER.blob,)


def test_no_cache() -> None:
    for values in ({"kind": MediaType.OCI_CONFIG}, {"artifact": "x"}):
        with pytest.raises(Invalid, match="no build cache"):
            CacheContent.parse(_manifest(CONTENT.config(), **values), CONTENT.config())


def test_a_layer_that_is_not_in_the_manifest() -> None:
    other = json.loads(CONTENT.config())
    other["mounts"][0]["layer"] = str(Digest.of(b"other"))
    with pytest.raises(Invalid, match="which it has not"):
        CacheContent.parse(_manifest(b""), json.dumps(other).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "id", "layer", "diffId", "created", "uncompressed", "x"]), inner
        )
    ),
    max_leaves=8,
)


@given(
    st.binary()
    | st.fixed_dictionaries({"records": JSON, "mounts": JSON}).map(lambda v: json.dumps(v).encode())
)
def test_anything_else_is_refused_cleanly(config: bytes) -> None:
    try:
        CacheContent.parse(_manifest(config), config)
    except Invalid:
        return
    assert json.loads(config).keys() == {"records", "mounts"}
