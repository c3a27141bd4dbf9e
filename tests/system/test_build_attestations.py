"""A finished build's documents, as other tools find them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.platform import Running

pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300),
]  # fmt: skip


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("attest") / "platform")
    found.directory.mkdir()
    found.seed_base()
    found.up()
    yield found
    found.down()


def test_packages_provenance_and_a_signature_that_openssl_believes(platform: Running, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "package.json").write_text('{"name": "left-pad", "version": "1.3.0"}')
    (source / "Dockerfile").write_text(
        "FROM debian:bookworm\n"
        "RUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null\n"
        "COPY package.json /app/node_modules/left-pad/\n"
    )
    (tmp_path / "token").write_text("very secret")
    secret = f"id=token,src={tmp_path}/token"
    platform.command("build", str(source), "-t", "web:1", "--secret", secret, "--build-arg", "COLOUR=red")
    found = platform.json("image", "inspect", "demo/web:1")
    assert found["signed"] is True
    assert "pkg:npm/left-pad@1.3.0" in found["packages"]
    assert any(item.startswith("pkg:deb/debian/libc6@") for item in found["packages"])
    asked = found["provenance"]["buildDefinition"]["externalParameters"]
    assert asked["args"] == {"COLOUR": "red"}
    assert asked["secrets"] == ["token"]
    assert asked["source"] == "local"
    materials = found["provenance"]["buildDefinition"]["resolvedDependencies"]
    assert materials[0]["uri"].startswith("docker://debian@sha256:")
    assert "very secret" not in json.dumps(found)
    assert str(tmp_path) not in json.dumps(found["provenance"])

    text = platform.command("image", "inspect", "demo/web:1").stdout.decode()
    assert "signed    yes, by the project" in text
    sbom = json.loads(platform.command("image", "sbom", "demo/web:1").stdout)
    assert sbom["spdxVersion"] == "SPDX-2.3"

    # As a stranger would: fetch the signature by its tag, check it with the project's public key.
    login = platform.start_command("user", "create", "ada", "--admin", "--password-stdin")
    login.communicate(b"correct horse\n")
    hexadecimal = found["digest"].removeprefix("sha256:")
    words = ["skopeo", "copy", "--src-tls-verify=false", "--src-creds", "ada:correct horse"]
    tag = f"docker://127.0.0.1:{platform.api_port}/demo/web:sha256-{hexadecimal}.sig"
    subprocess.run([*words, tag, f"dir:{tmp_path}/sig"], check=True, capture_output=True)
    manifest = json.loads((tmp_path / "sig/manifest.json").read_text())
    layer = manifest["layers"][0]
    payload = tmp_path / "sig" / layer["digest"].removeprefix("sha256:")
    assert json.loads(payload.read_text())["critical"]["image"]["docker-manifest-digest"] == found["digest"]
    (tmp_path / "signature").write_bytes(
        base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    )
    (tmp_path / "key.pem").write_bytes(platform.command("project", "signing-key", "demo").stdout)
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", tmp_path / "key.pem", "-signature", tmp_path / "signature", payload],
        check=True, capture_output=True,
    )  # fmt: skip
    assert done.stdout == b"Verified OK\n"

    # The tags beside the image are no images, and go with it.
    assert [item["tag"] for item in platform.json("image", "ls")] == ["bookworm", "1"] or all(
        not item["tag"].startswith("sha256-") for item in platform.json("image", "ls")
    )
    platform.command("image", "rm", f"demo/web@{found['digest']}")
    done = subprocess.run([*words, tag, f"dir:{tmp_path}/gone"], check=False, capture_output=True)
    assert done.returncode != 0


def test_an_image_that_somebody_pushed_is_not_signed(platform: Running, tmp_path: Path) -> None:
    found = platform.json("image", "inspect", "library/debian:bookworm")
    assert found["signed"] is False
    assert found["packages"] is None
    done = platform.command("image", "sbom", "library/debian:bookworm", ok=False)
    assert b"has no SBOM" in done.stderr
