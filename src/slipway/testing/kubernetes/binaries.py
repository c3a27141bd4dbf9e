"""Kubernetes itself, compiled once from Debian's source package and kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from slipway.errors import Failed
from slipway.testing.kubernetes.site import BINARIES, CACHE

_SOURCE, _RELEASE = "kubernetes", "bookworm"
_PROGRAMS = (
    "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
)  # fmt: skip
_SUITE = """\
Types: deb-src
URIs: {address}
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
# The provisioner of volumes that are directories of the host makes them for root alone, which no usual Pod is.
_PROVISIONER = "pkg/volume/hostpath/host_path.go"
_PATCH = ("os.MkdirAll(pv.Spec.HostPath.Path, 0750)", "os.MkdirAll(pv.Spec.HostPath.Path, 0777)")


def binaries() -> Path:
    """The directory of the programs. The first call compiles them: minutes, and 5 GB of disk for that time.

    Raises ``Failed`` with the end of what the compiler said.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "kubernetes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not BINARIES.exists():
            with tempfile.TemporaryDirectory(prefix="kubernetes-", dir="/var/tmp") as directory:
                _compile(Path(directory))
    return BINARIES


def _compile(work: Path) -> None:
    source, go = _fetch(work), work / "go"
    provisioner = source / _PROVISIONER
    provisioner.write_text(provisioner.read_text().replace(*_PATCH))
    place = go / "src" / "k8s.io"
    place.mkdir(parents=True)
    (place / "kubernetes").symlink_to(source)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "GOPATH": str(go),
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
    }
    what = " ".join(f"cmd/{program}" for program in _PROGRAMS)
    _run(["nice", "make", f"WHAT={what}"], place / "kubernetes", environment)
    made = BINARIES.with_name(f".{BINARIES.name}.{os.getpid()}")
    shutil.copytree(source / "_output" / "local" / "bin" / "linux" / _architecture(), made)
    for program in made.iterdir():
        if program.name not in _PROGRAMS:  # generators of code, which the build makes for itself
            program.unlink()
    made.rename(BINARIES)


def _fetch(work: Path) -> Path:
    """The unpacked source package, by an apt that has its own list of sources beside the machine's."""
    for directory in ("sources", "lists/partial"):
        (work / directory).mkdir(parents=True)
    (work / "sources" / "source.sources").write_text(_SUITE.format(**_mirror()))
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": work / "sources",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache::PkgCache": "",
        "Dir::Cache::SrcPkgCache": "",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    environment = {
        name: value for name, value in os.environ.items() if name == "PATH" or "proxy" in name.lower()
    }
    _run([*apt, "update"], work, environment)
    _run([*apt, "source", _SOURCE], work, environment)
    (source,) = work.glob(f"{_SOURCE}-*/")
    return source


def _mirror() -> dict[str, str]:
    """Where this machine has its packages from. Raises ``Failed`` when that is not Debian 12."""
    asked = [
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
        "Origin: Debian",
        "Component: main",
    ]
    for line in subprocess.run(
        ["apt-get", "indextargets", *asked], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        address, suite = line.split()
        if suite == _RELEASE:
            return {"address": address, "suite": suite}
    raise Failed(
        f"this machine has no package source of Debian's {_RELEASE}",
        hint="set KUBECONFIG to use a cluster that exists",
    )


def _architecture() -> str:
    words = ["dpkg", "--print-architecture"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _run(words: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        words, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(
            f"{' '.join(words[-2:])} ended with status {done.returncode}: {done.stdout[-3000:]}",
            hint="`make test-kubernetes` installs the packages that this takes",
        )
