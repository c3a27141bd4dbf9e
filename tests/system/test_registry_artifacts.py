"""What is no image: charts pushed and pulled by Helm, files by ORAS, each with a login of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import oras.client
import pytest

from slipway.install import write_chart
from slipway.testing.platform import Running

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
HELM = Path(sys.executable).parent / "helm"
SECRET = "correct horse"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("artifacts"))
    running.up()
    for name, role in (("dev", "developer"), ("gus", "guest")):
        running.add_member(name, SECRET, role)
    yield running
    running.down()


def address(platform: Running) -> str:
    return f"127.0.0.1:{platform.api_port}"


def helm(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "HELM_REGISTRY_CONFIG": str(home / "login.json")}
    return subprocess.run(
        [str(HELM), *words], capture_output=True, text=True, check=False, env=env, timeout=60
    )


def login(home: Path, platform: Running, user: str) -> None:
    """What ``helm registry login`` writes: it asks by HTTPS alone, where pushing and pulling need not."""
    word = b64encode(f"{user}:{SECRET}".encode()).decode()
    (home / "login.json").write_text(json.dumps({"auths": {address(platform): {"auth": word}}}))


def test_helm_pushes_shows_and_pulls_a_chart(platform: Running, tmp_path: Path) -> None:
    write_chart(tmp_path / "chart")
    helm(tmp_path, "package", str(tmp_path / "chart"), "-d", str(tmp_path))
    package = next(tmp_path.glob("slipway-*.tgz"))
    plain = ("--plain-http",)
    login(tmp_path, platform, "dev")
    pushed = helm(tmp_path, "push", str(package), f"oci://{address(platform)}/demo/charts", *plain)
    assert pushed.returncode == 0, pushed.stderr
    (tmp_path / "there").mkdir()
    name = f"oci://{address(platform)}/demo/charts/slipway"
    pulled = helm(tmp_path, "pull", name, "-d", str(tmp_path / "there"), *plain)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "there" / package.name).read_bytes() == package.read_bytes()
    assert "replicas: 2" in helm(tmp_path, "show", "values", name, *plain).stdout


def test_helm_is_refused_what_the_role_does_not_allow(platform: Running, tmp_path: Path) -> None:
    write_chart(tmp_path / "chart")
    helm(tmp_path, "package", str(tmp_path / "chart"), "-d", str(tmp_path))
    package = next(tmp_path.glob("slipway-*.tgz"))
    target = f"oci://{address(platform)}/demo/others"
    login(tmp_path, platform, "gus")
    refused = helm(tmp_path, "push", str(package), target, "--plain-http")
    assert refused.returncode != 0
    assert "401" in refused.stderr or "403" in refused.stderr


def test_oras_pushes_files_and_finds_them_again(
    platform: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("what was delivered\n")
    client = oras.client.OrasClient(hostname=address(platform), insecure=True, auth_backend="basic")
    client.auth.set_basic_auth("dev", SECRET)
    name = f"{address(platform)}/demo/notes:v1"
    client.push(name, files=["notes.txt"], manifest_annotations={"org.example.kind": "notes"})
    (tmp_path / "there").mkdir()
    found = client.pull(name, outdir="there")
    assert [Path(path).read_text() for path in found] == ["what was delivered\n"]
    assert client.get_tags(name) == ["v1"]
    assert client.get_manifest(name)["annotations"]["org.example.kind"] == "notes"
