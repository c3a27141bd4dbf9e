"""What a project's images may be, through the command line and real clients: quotas, rules, trash, findings, audit."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from slipway.testing.containerd import containerd
from slipway.testing.platform import Running

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]
SECRET = "correct horse"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running.make(tmp_path_factory.mktemp("governed"))
    running.variables["SLIPWAY_WEBHOOKS_LOCAL"] = "on"
    running.seed_base()
    running.up()
    running.start_command("user", "create", "dev", "--password-stdin").communicate(f"{SECRET}\n".encode())
    running.command("project", "add", "demo", "dev", "--role", "developer")
    source = running.directory / "source"
    source.mkdir()
    for tag in ("v1", "v2", "v3"):
        (source / "Dockerfile").write_text(f"FROM debian:bookworm\nLABEL n={tag}\nRUN echo {tag} > /n\n")
        running.command("build", str(source), "-t", f"app:{tag}")
    yield running
    running.down()


def pull(platform: Running, name: str, target: Path) -> subprocess.CompletedProcess[str]:
    words = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "-q",
        "--src-tls-verify=false",
        "--src-creds",
        f"dev:{SECRET}",
    ]
    return subprocess.run(
        [*words, f"docker://127.0.0.1:{platform.api_port}/{name}", f"dir:{target}"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def push(platform: Running, source: str, name: str) -> subprocess.CompletedProcess[str]:
    words = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "-q",
        "--dest-tls-verify=false",
        "--dest-creds",
        f"dev:{SECRET}",
    ]
    return subprocess.run(
        [*words, source, f"docker://127.0.0.1:{platform.api_port}/{name}"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def tags(platform: Running, repository: str = "demo/app") -> list[str]:
    return [item["tag"] for item in platform.json("image", "ls") if item["repository"] == repository]


def test_removed_is_restored(platform: Running) -> None:
    platform.command("image", "rm", "demo/app:v1")
    assert tags(platform) == ["v2", "v3"]
    [thrown] = [item for item in platform.json("image", "trash", "demo") if item["tag"] == "v1"]
    assert thrown["deleted_by"] == "root"
    platform.command("image", "restore", "demo/app:v1")
    assert tags(platform) == ["v1", "v2", "v3"]
    assert platform.json("image", "inspect", "demo/app:v1")["signed"]


def test_rules_are_shown_before_they_act(platform: Running) -> None:
    platform.command("project", "registry-policy", "demo", "--keep", "app:v* last=2", "--immutable", "app:v1")
    shown = platform.command("project", "registry-policy", "demo").stdout.decode()
    assert "keep       app:v* last=2" in shown
    assert "immutable  app:v1" in shown
    verdicts = {item["tag"]: item for item in platform.json("project", "retention", "demo")}
    assert [verdicts[tag]["keep"] for tag in ("v1", "v2", "v3")] == [True, False, True]
    assert verdicts["v1"]["reason"] == "immutable"
    platform.command("project", "registry-policy", "demo", "--mutable", "app:v1")
    verdicts = {item["tag"]: item for item in platform.json("project", "retention", "demo")}
    assert "number 1" in verdicts["v1"]["reason"]  # what was restored counts as pushed just now
    assert tags(platform) == ["v1", "v2", "v3"]
    platform.command("project", "retention", "demo", "--apply")
    assert tags(platform) == ["v1", "v3"]
    platform.command("image", "restore", "demo/app:v2")
    platform.command("project", "registry-policy", "demo", "--keep-all")
    wrong = platform.command("project", "registry-policy", "demo", "--keep", "v* lots=2", ok=False)
    assert b"not part of a rule" in wrong.stderr


def test_a_quota_stops_a_push_and_a_build(platform: Running, tmp_path: Path) -> None:
    used = platform.json("project", "registry-policy", "demo")["used"]
    assert used > 1_000_000
    assert pull(platform, "demo/app:v3", tmp_path / "image").returncode == 0
    platform.command("project", "registry-policy", "demo", "--quota", str(used))
    try:
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "Dockerfile").write_text(
            "FROM debian:bookworm\nRUN head -c 99999 /dev/urandom > /x\n"
        )
        failed = platform.command("build", str(tmp_path / "s"), "-t", "app:more", ok=False)
        assert b"quota" in failed.stderr + failed.stdout
        again = push(platform, f"dir:{tmp_path / 'image'}", "demo/app:same")
        assert again.returncode == 0, again.stderr  # nothing that was not counted already
    finally:
        platform.command("project", "registry-policy", "demo", "--quota", "none")
    assert platform.json("project", "registry-policy", "demo")["quota"] is None
    platform.command("image", "rm", "--now", "demo/app:same")


def test_images_with_findings_and_unsigned_ones_cannot_be_pulled(platform: Running, tmp_path: Path) -> None:
    missing = platform.command("image", "findings", "demo/app:v3", ok=False)
    assert b"there are no advisories" in missing.stderr
    record = {
        "id": "DSA-0000-1", "modified": "2026-01-01T00:00:00Z", "summary": "perl does too much",
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "perl"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
            }
        ],
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    }  # fmt: skip
    (tmp_path / "debian.json").write_text(json.dumps(record))
    platform.command("advisories", "import", str(tmp_path / "debian.json"))
    found = platform.json("image", "findings", "demo/app:v3")
    assert {(item["id"], item["severity"]) for item in found["findings"]} == {("DSA-0000-1", "critical")}
    assert "perl-base" in {item["package"] for item in found["findings"]}
    assert found["checked"] > 50
    assert pull(platform, "demo/app:v3", tmp_path / "a").returncode == 0
    platform.command("project", "registry-policy", "demo", "--block", "high")
    denied = pull(platform, "demo/app:v3", tmp_path / "b")
    assert denied.returncode != 0
    assert "DSA-0000-1 in " in denied.stderr
    exported = platform.command("image", "export", "demo/app:v3", "-o", str(tmp_path / "x.tar"), ok=False)
    assert b"DSA-0000-1" in exported.stderr
    platform.command("project", "registry-policy", "demo", "--block", "none", "--require-signature")
    signed = pull(platform, "demo/app:v3", tmp_path / "c")
    assert signed.returncode == 0, signed.stderr
    copied = push(platform, f"dir:{tmp_path / 'a'}", "demo/copy:1")
    assert copied.returncode == 0, copied.stderr
    refused = pull(platform, "demo/copy:1", tmp_path / "d")
    assert refused.returncode != 0
    assert "is not signed" in refused.stderr
    (tmp_path / "upon").mkdir()
    (tmp_path / "upon" / "Dockerfile").write_text("FROM demo/copy:1\nRUN true\n")
    built = platform.command("build", str(tmp_path / "upon"), "-t", "upon:1", ok=False)
    assert b"is not signed" in built.stderr + built.stdout
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "compose.yaml").write_text("name: app\nservices: {web: {image: 'demo/copy:1'}}\n")
    delivered = platform.command("deliver", str(tmp_path / "app"), ok=False)
    assert b"is not signed" in delivered.stderr + delivered.stdout
    given = platform.command("image", "push", "demo/copy:1", "127.0.0.1:9/x/y:1", ok=False)
    assert b"is not signed" in given.stderr + given.stdout
    platform.command("project", "registry-policy", "demo", "--no-require-signature")
    platform.command("advisories", "rm", "debian")


class Hook(BaseHTTPRequestHandler):
    got: ClassVar[list[dict[str, object]]] = []

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        Hook.got.append(json.loads(data))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_webhook_is_told_of_a_build(platform: Running) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    made = platform.json("webhook", "add", "demo", url, "--on", "image.pushed")
    assert len(made["secret"]) >= 32
    source = platform.directory / "source"
    platform.command("build", str(source), "-t", "app:told")
    end = time.monotonic() + 60
    while not Hook.got and time.monotonic() < end:
        time.sleep(0.1)
    server.shutdown()
    [event] = [item["data"] for item in Hook.got if item["data"]["tag"] == "told"]  # type: ignore[index]
    assert event["repository"] == "demo/app"  # type: ignore[index]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        deliveries = platform.json("webhook", "deliveries", "demo", str(made["id"]))
        if all(item["state"] == "done" for item in deliveries):
            break
        time.sleep(0.2)
    assert {item["answer"] for item in deliveries} == {"204"}
    platform.command("webhook", "rm", "demo", str(made["id"]))
    assert platform.json("webhook", "ls", "demo") == []


def test_the_audit_says_what_was_done_and_what_was_refused(platform: Running, tmp_path: Path) -> None:
    events = platform.json("audit", "--project", "demo", "--action", "image.*", "-n", "1000")
    assert {"image.pushed", "image.deleted", "image.restored"} <= {item["action"] for item in events}
    words = ["skopeo", "delete", "--tls-verify=false", "--creds", f"dev:{SECRET}"]
    denied = subprocess.run(
        [*words, f"docker://127.0.0.1:{platform.api_port}/demo/app:v3"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert denied.returncode != 0, "root built it, so dev may not delete it"
    assert "v3" in tags(platform)
    lines = platform.command("audit", "--export").stdout.splitlines()
    exported = [json.loads(line) for line in lines]
    assert [item["id"] for item in exported] == sorted(item["id"] for item in exported)
    assert len(exported) >= len(events)
    nobody = platform.command("audit", "--since", "2999-01-01")
    assert nobody.stdout.splitlines()[1:] == []


@pytest.mark.parametrize("runtime", ["containerd", "podman"])
def test_a_runtime_asks_the_mirror(platform: Running, tmp_path: Path, runtime: str) -> None:
    """A node that wants an image of a registry that is not there, and gets it from here."""
    if "open" not in [item["name"] for item in platform.json("project", "ls")]:
        platform.command("project", "create", "open", "--public")
        platform.command("build", str(platform.directory / "source"), "--project", "open", "-t", "team/app:1")
    mirror = f"http://127.0.0.1:{platform.api_port}/open"
    directory = tmp_path / "conf"
    words = ("mirrors", "gone.example.org", mirror, "--runtime", runtime, "--directory", str(directory))
    platform.command(*words)
    if runtime == "podman":
        conf = directory / "slipway-gone.example.org.conf"
        command = ["skopeo", "--insecure-policy", "--registries-conf", str(conf), "copy", "-q"]
        command += ["docker://gone.example.org/team/app:1", f"dir:{tmp_path / 'i'}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "i" / "manifest.json").exists()
        return
    with containerd(tmp_path / "node") as ctr:
        ctr.images("pull", "--hosts-dir", str(directory), "gone.example.org/team/app:1")
