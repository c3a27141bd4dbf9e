"""HTTPS with the server's own authority, against skopeo, podman, curl and our command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.platform import Running
from slipway.testing.registry_clients import umoci_layout

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
SECRET = "correct horse"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("tls"))
    running.variables = {"SLIPWAY_TLS_LOCAL_CA": "on", "SLIPWAY_TLS_NAMES": "slipway.test,10.1.2.3"}
    running.up()
    running.start_command("user", "create", "dev", "--password-stdin").communicate(f"{SECRET}\n".encode())
    running.command("project", "add", "demo", "dev", "--role", "developer")
    yield running
    running.down()


@pytest.fixture(scope="module")
def trust(platform: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as below certs.d."""
    directory = tmp_path_factory.mktemp("certs")
    (directory / "ca.crt").write_bytes(platform.command("tls", "ca").stdout)
    return directory


def run(*words: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=120
    )
    assert not ok or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return umoci_layout(tmp_path_factory.mktemp("layout"), os.urandom(3_000_000))


def test_skopeo_and_podman_push_and_pull(
    platform: Running, trust: Path, layout: Path, tmp_path: Path
) -> None:
    image = f"{platform.host}/demo/tls:1"
    copy = ["skopeo", "--insecure-policy", "copy"]
    creds = ["--dest-creds", f"dev:{SECRET}"]
    untrusted = run(*copy, *creds, f"oci:{layout}:1", f"docker://{image}", ok=False)
    assert "certificate" in untrusted.stderr
    run(*copy, *creds, "--dest-cert-dir", trust, f"oci:{layout}:1", f"docker://{image}")
    run(
        *copy, "--src-creds", f"dev:{SECRET}", "--src-cert-dir", trust, f"docker://{image}",
        f"oci:{tmp_path}/back:1",
    )  # fmt: skip
    assert {path.name for path in (tmp_path / "back/blobs/sha256").iterdir()} <= {
        path.name for path in (layout / "blobs/sha256").iterdir()
    }
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # podman wants short names here
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        trusting: list[str | Path] = ["--cert-dir", trust, "--creds", f"dev:{SECRET}"]
        run(*podman, "pull", "-q", *trusting, image)
        run(*podman, "tag", image, f"{platform.host}/demo/tls:2")
        run(*podman, "push", "-q", *trusting, f"{platform.host}/demo/tls:2")
    tags = run(
        "skopeo",
        "list-tags",
        "--cert-dir",
        trust,
        "--creds",
        f"dev:{SECRET}",
        f"docker://{platform.host}/demo/tls",
    )
    assert json.loads(tags.stdout)["Tags"] == ["1", "2"]


def test_the_realm_says_https_and_every_name_is_believed(platform: Running, trust: Path) -> None:
    curl: list[str | Path] = ["curl", "-sS", "--cacert", trust / "ca.crt"]
    port = platform.api_port
    for name in ("localhost", "slipway.test", socket.gethostname()):
        found = run(*curl, "--resolve", f"{name}:{port}:127.0.0.1", "-i", f"https://{name}:{port}/v2/")
        assert f'Bearer realm="https://{name}:{port}/token"' in found.stdout
    assert run(*curl, f"https://{platform.host}/api/v1/health").stdout == '{"ok":true}'
    assert "CERTIFICATE" in run("curl", "-sSk", f"https://{platform.host}/api/v1/tls/ca").stdout
    strange = run(*curl, "--resolve", f"x.test:{port}:127.0.0.1", f"https://x.test:{port}/v2/", ok=False)
    assert strange.returncode == 60


def test_old_protocols_and_plain_text_are_refused(platform: Running) -> None:
    path = f"{platform.host}/api/v1/health"
    assert run("curl", "-sSk", "--tls-max", "1.1", f"https://{path}", ok=False).returncode != 0
    assert run("curl", "-sS", f"http://{path}", ok=False).returncode != 0
    assert "Traceback" not in (platform.data / "server.log").read_text()


def test_the_command_line_verifies_and_remembers(platform: Running, trust: Path, tmp_path: Path) -> None:
    address = f"https://{platform.host}"
    platform.variables |= {"XDG_CONFIG_HOME": str(tmp_path), "SLIPWAY_SERVER": address}
    try:
        words = ["login", address, "-u", "dev", "--password-stdin"]
        with platform.start_command(*words) as process:
            _, error = process.communicate(f"{SECRET}\n".encode(), timeout=60)
        assert process.returncode == 1
        assert b"is not trusted" in error
        with platform.start_command(*words, "--ca", str(trust / "ca.crt")) as process:
            process.communicate(f"{SECRET}\n".encode(), timeout=60)
        assert process.returncode == 0
        assert {item["name"] for item in platform.json("project", "ls")} >= {"demo"}
        (tmp_path / "slipway/login.json").unlink()
        assert platform.command("project", "ls", ok=False).returncode == 1
    finally:
        del platform.variables["XDG_CONFIG_HOME"], platform.variables["SLIPWAY_SERVER"]


def test_the_socket_stays_plain_and_a_restart_keeps_the_authority(platform: Running, trust: Path) -> None:
    assert platform.json("status")["url"] == f"https://{platform.host}"
    certificate = platform.data / "keys/ca/server.pem"
    before = certificate.read_bytes()
    platform.command("down")
    platform.up()
    assert certificate.read_bytes() == before
    platform.command("down")
    platform.variables["SLIPWAY_TLS_NAMES"] = "other.test"
    platform.up()
    assert certificate.read_bytes() != before
    run(
        "curl", "-sS", "--cacert", trust / "ca.crt", "--resolve", f"other.test:{platform.api_port}:127.0.0.1",
        f"https://other.test:{platform.api_port}/api/v1/health",
    )  # fmt: skip
