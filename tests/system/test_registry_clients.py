"""More clients, unchanged: buildah and containerd push and pull, by each kind of manifest they know."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.containerd import containerd
from slipway.testing.platform import Running
from slipway.testing.registry_clients import umoci_layout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(600),
]
SECRET = "correct horse"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("clients"))
    running.up()
    for name, role in (("dev", "developer"), ("gus", "guest")):
        running.add_member(name, SECRET, role)
    yield running
    running.down()


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return umoci_layout(tmp_path_factory.mktemp("layout"), b"hello\n" * 1000)


def raw(platform: Running, name: str) -> tuple[str, bytes]:
    """Media type and bytes of a manifest, as skopeo gets them."""
    words = ["skopeo", "inspect", "--raw", "--tls-verify=false", "--creds", f"gus:{SECRET}"]
    target = f"docker://127.0.0.1:{platform.api_port}/{name}"
    done = subprocess.run([*words, target], capture_output=True, check=True, timeout=120)
    return json.loads(done.stdout).get("mediaType", OCI), done.stdout  # OCI's need not say it


@pytest.mark.parametrize(("form", "kind"), [("oci", OCI), ("v2s2", DOCKER)])
def test_buildah_pushes_and_pulls(
    platform: Running, layout: Path, tmp_path: Path, form: str, kind: str
) -> None:
    storage = ["--root", f"{tmp_path}/root", "--runroot", f"{tmp_path}/run", "--storage-driver", "vfs"]

    def buildah(*words: str, ok: bool = True) -> str:
        command = ["buildah", *storage, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode == 0) is ok, done.stderr
        return done.stdout.strip()

    target = f"127.0.0.1:{platform.api_port}/demo/{form}:1"
    image = buildah("pull", "-q", f"oci:{layout}:1")
    push = ("push", "-q", "--tls-verify=false", "--format", form)
    buildah(*push, "--creds", f"gus:{SECRET}", image, f"docker://{target}", ok=False)
    buildah(*push, "--creds", f"dev:{SECRET}", image, f"docker://{target}")
    assert raw(platform, f"demo/{form}:1")[0] == kind
    buildah("rmi", "-a", "-f")
    buildah("pull", "-q", "--tls-verify=false", "--creds", f"gus:{SECRET}", f"docker://{target}")
    working = buildah("from", "--pull-never", target)
    mounted = buildah("mount", working)
    assert (Path(mounted) / "hello").read_bytes() == b"hello\n" * 1000
    buildah("umount", working)


def test_containerd_pulls_and_pushes(platform: Running, layout: Path, tmp_path: Path) -> None:
    words = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
    host = f"127.0.0.1:{platform.api_port}"
    command = [*words, "--dest-creds", f"dev:{SECRET}", f"oci:{layout}:1", f"docker://{host}/demo/ctr:1"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with containerd(tmp_path / "c") as ctr:
        ctr.images("pull", "--plain-http", "-u", f"gus:{SECRET}", f"{host}/demo/ctr:1")
        for name in ("demo/ctr:2", "demo/other:1"):
            ctr.images("tag", f"{host}/demo/ctr:1", f"{host}/{name}")
            ctr.images("push", "--plain-http", "-u", f"dev:{SECRET}", f"{host}/{name}")
            assert raw(platform, name) == raw(platform, "demo/ctr:1")
        refused = ctr.images("pull", "--plain-http", "-u", "gus:wrong words", f"{host}/demo/ctr:2", ok=False)
        assert refused.returncode != 0
