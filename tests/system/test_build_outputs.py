"""Where a build can go: files that other tools read, a directory, another registry; one or several platforms."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.testing.platform import Running
from slipway.testing.registries import debian_registry

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root"), pytest.mark.timeout(300)]

DOCKERFILE = """\
FROM scratch AS files
COPY hello /bin/hello
ENV GREETING=hi
LABEL kept=yes
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("outputs") / "platform")
    found.directory.mkdir()
    found.up()
    yield found
    found.down()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    found = tmp_path / "source"
    found.mkdir()
    (found / "hello").write_text("hello\n")
    (found / "hello").chmod(0o755)
    (found / "Dockerfile").write_text(DOCKERFILE)
    return found


def _run(*words: str | Path) -> bytes:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True).stdout


def test_an_oci_archive_and_a_docker_archive_are_read_by_skopeo(
    platform: Running, source: Path, tmp_path: Path
) -> None:
    oci, docker = tmp_path / "a.oci", tmp_path / "a.docker"
    platform.command(
        "build", str(source), "-t", "web:1", "-o", f"type=oci,dest={oci}", "-o", f"type=docker,dest={docker}"
    )
    found = json.loads(_run("skopeo", "inspect", "--config", f"oci-archive:{oci}:1"))
    assert found["config"]["Env"][-1] == "GREETING=hi"
    assert found["config"]["Labels"] == {"kept": "yes"}
    again = json.loads(_run("skopeo", "inspect", "--config", f"docker-archive:{docker}:demo/web:1"))
    assert again["config"] == found["config"]
    # The archive of the same image is the same file.
    platform.command("image", "export", "demo/web:1", "-o", str(tmp_path / "b.oci"))
    assert (tmp_path / "b.oci").read_bytes() == oci.read_bytes()


def test_podman_loads_and_shows_the_file(platform: Running, source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    platform.command("build", str(source), "-t", "web:1", "-o", f"type=docker,dest={archive}")
    storage = Path("/var/tmp") / f"pm-{os.getpid()}"
    podman = ["podman", "--root", str(storage / "r"), "--runroot", str(storage / "n"), "--storage-driver=vfs"]
    try:
        _run(*podman, "load", "-i", archive)
        names = json.loads(_run(*podman, "images", "--format", "json"))
        assert any("demo/web:1" in name for item in names for name in item["Names"])
    finally:
        subprocess.run(["rm", "-rf", storage], check=True)


def test_a_directory_a_tar_and_standard_output(platform: Running, source: Path, tmp_path: Path) -> None:
    before = platform.json("image", "ls")
    platform.command("build", str(source), "-o", str(tmp_path / "root"))
    assert (tmp_path / "root/bin/hello").read_text() == "hello\n"
    assert os.access(tmp_path / "root/bin/hello", os.X_OK)

    platform.command("build", str(source), "-o", f"type=tar,dest={tmp_path}/root.tar")
    done = platform.command("build", str(source), "-o", "-")
    assert done.stdout == (tmp_path / "root.tar").read_bytes()
    assert b"COPY hello /bin/hello" in done.stderr
    with tarfile.open(tmp_path / "root.tar") as archive:
        assert [item.name for item in archive if item.isfile()] == ["bin/hello"]
    # Without -t nothing was tagged.
    assert platform.json("image", "ls") == before


def test_an_output_that_cannot_be_written(platform: Running, source: Path, tmp_path: Path) -> None:
    done = platform.command("build", str(source), "-o", f"type=oci,dest={tmp_path}/none/a.oci", ok=False)
    assert done.returncode == 1
    assert b"cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr
    done = platform.command("build", str(source), "-o", "type=zip,dest=x", ok=False)
    assert b"not an output: 'type=zip,dest=x'" in done.stderr


@pytest.mark.parametrize("login", [None, ("ada", "correct horse")])
def test_another_registry_gets_it_and_gives_it_back(
    platform: Running, source: Path, tmp_path: Path, login: tuple[str, str] | None
) -> None:
    with debian_registry(tmp_path / "other", login) as host:
        target = f"{host}/team/web:1"
        if login:
            done = platform.command("build", str(source), "-o", f"type=registry,name={target}", ok=False)
            assert b"a login is needed" in done.stderr or b"wants a login" in done.stderr
            auth = tmp_path / "auth.json"
            _run(
                "skopeo",
                "login",
                "--authfile",
                auth,
                "--tls-verify=false",
                "-u",
                login[0],
                "-p",
                login[1],
                host,
            )
            platform.variables["REGISTRY_AUTH_FILE"] = str(auth)
        try:
            platform.command("build", str(source), "-t", "web:2", "-o", f"type=registry,name={target}")
            ours = platform.json("image", "inspect", "demo/web:2")["digest"]
            words = [
                "skopeo",
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                f"docker://{target}",
            ]
            if login:
                words[2:2] = ["--creds", ":".join(login)]
            assert _run(*words).decode().strip() == ours
            done = platform.command("image", "push", "demo/web:2", target)
            assert b"is there already" in done.stdout

            (source / "Dockerfile").write_text(f"FROM {target}\nENV SECOND=1\n")
            if login:
                done = platform.command("build", str(source), "-t", "next", ok=False)
                assert done.returncode == 1
                platform.command("build", str(source), "-t", "next", "--registry-login", host)
                # What took a login is the project's own.
                kept = {item["repository"] for item in platform.json("image", "ls")}
                assert any(name.startswith("demo/127-0-0-1") for name in kept)
            else:
                platform.command("build", str(source), "-t", "next")
            found = platform.json("image", "inspect", "demo/next")
            assert {"GREETING=hi", "SECOND=1"} <= set(found["config"]["Env"])
        finally:
            platform.variables.pop("REGISTRY_AUTH_FILE", None)


def test_what_was_fetched_stays_until_it_is_pulled_again(
    platform: Running, source: Path, tmp_path: Path
) -> None:
    with debian_registry(tmp_path / "other", None) as host:
        target = f"{host}/team/base:1"
        platform.command("build", str(source), "-o", f"type=registry,name={target}")
        (source / "Dockerfile").write_text(f"FROM {target}\n")
        platform.command("build", str(source), "-t", "kept")
        first = platform.json("image", "inspect", "demo/kept")["digest"]
        (source / "Dockerfile").write_text(DOCKERFILE + "ENV NEW=1\n")
        platform.command("build", str(source), "-o", f"type=registry,name={target}")
        (source / "Dockerfile").write_text(f"FROM {target}\n")
        platform.command("build", str(source), "-t", "kept")
        assert platform.json("image", "inspect", "demo/kept")["digest"] == first
        platform.command("build", str(source), "-t", "kept", "--pull")
        assert platform.json("image", "inspect", "demo/kept")["digest"] != first


def test_several_platforms_make_an_index(platform: Running, source: Path, tmp_path: Path) -> None:
    (source / "Dockerfile").write_text(
        "FROM scratch\nARG TARGETARCH\nCOPY hello /bin/hello\nENV ARCH=$TARGETARCH\n"
    )
    words = ["build", str(source), "-t", "multi:1", "--platform", "linux/amd64,linux/arm64"]
    said = platform.command("--output", "json", *words).stdout.splitlines()
    result = json.loads(said[-1])["result"]
    assert result["platforms"] == ["linux/amd64", "linux/arm64"]
    archive = tmp_path / "multi.oci"
    platform.command("image", "export", "demo/multi:1", "-o", str(archive))
    for arch in ("amd64", "arm64"):
        words = ["skopeo", "--override-arch", arch, "inspect", "--config", f"oci-archive:{archive}"]
        found = json.loads(_run(*words))
        assert found["architecture"] == arch
        assert f"ARCH={arch}" in found["config"]["Env"]
    platform.command(
        "image", "export", "demo/multi:1", "-o", str(tmp_path / "one"), "--platform", "linux/arm64"
    )
    with tarfile.open(tmp_path / "one") as tar:
        index = json.load(tar.extractfile("index.json") or pytest.fail("no index.json"))
    assert index["manifests"][0]["mediaType"] == "application/vnd.oci.image.manifest.v1+json"


def test_a_foreign_program_without_an_emulator_says_so(platform: Running, source: Path) -> None:
    if Path("/proc/sys/fs/binfmt_misc/qemu-s390x").exists():
        pytest.skip("this machine runs s390x programs")
    (source / "Dockerfile").write_text('FROM scratch\nCOPY hello /\nRUN ["/hello"]\n')
    done = platform.command("build", str(source), "-t", "x", "--platform", "linux/s390x", ok=False)
    assert b"this machine cannot run programs for linux/s390x" in done.stderr
    assert b"qemu-user-static" in done.stderr
