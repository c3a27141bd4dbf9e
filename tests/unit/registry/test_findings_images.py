"""Images of several distributions against records of their databases, from the files of ``osv/``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.build.attest import spdx
from slipway.build.attest.packages import Package
from slipway.build.attest.readers import read_apk, read_dpkg
from slipway.oci import Digest
from slipway.registry.findings import Advisories, Level, match_document

RECORDS = Path(__file__).parent / "osv"


@pytest.fixture(scope="module")
def advisories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Advisories]:
    directory = tmp_path_factory.mktemp("findings")
    with zipfile.ZipFile(directory / "all.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in RECORDS.iterdir():
            file.write(path, path.name)
    made = Advisories(directory / "index.sqlite")
    counts = made.load(directory / "all.zip")
    assert (counts.read, counts.withdrawn, counts.skipped, counts.unused) == (13, 1, 0, 0)
    yield made
    made.close()


def found(advisories: Advisories, *packages: Package) -> list[tuple[str, str, str | None, Level]]:
    document = spdx.document("demo/web", Digest.of(b"x"), packages, [], "2024-01-02T03:04:05Z")
    matches = match_document(json.loads(spdx.encoded(document)), advisories)
    assert matches.unchecked == {}
    assert matches.checked == len(packages)
    return [(item.id, item.package, item.fixed, item.severity.level) for item in matches.findings]


def deb(name: str, version: str, source: str, distribution: str = "debian", release: str = "12") -> Package:
    return Package("deb", name, version, "amd64", "", distribution, release, source)


def rpm(
    name: str, version: str, distribution: str, release: str, source: tuple[str, str] = ("", "")
) -> Package:
    return Package("rpm", name, version, "x86_64", "", distribution, release, *source)


def test_debian(advisories: Advisories) -> None:
    """The advisory (DSA) gives way to the flaws it is about; Debian 11 calls the flaw unimportant."""
    status = b"Package: libcurl4\nSource: curl\nVersion: 7.88.1-10+deb12u1\nArchitecture: amd64\n"
    (package,) = read_dpkg(status)
    twelve = replace(package, distribution="debian", release="12")
    assert found(advisories, twelve) == [
        ("DEBIAN-CVE-2023-38545", "libcurl4", "7.88.1-10+deb12u4", Level.CRITICAL),
        ("DEBIAN-CVE-2023-38546", "libcurl4", "7.88.1-10+deb12u4", Level.LOW),
    ]
    assert found(advisories, deb("libcurl4", "7.88.1-10+deb12u12", "curl")) == []
    assert found(advisories, deb("curl", "7.74.0-1.3+deb11u7", "", release="11")) == [
        ("DEBIAN-CVE-2023-38545", "curl", None, Level.LOW)
    ]


def test_ubuntu(advisories: Advisories) -> None:
    assert found(advisories, deb("libc6", "2.35-0ubuntu3.1", "glibc", "ubuntu", "22.04")) == [
        ("UBUNTU-CVE-2024-2961", "libc6", "2.35-0ubuntu3.7", Level.HIGH)
    ]
    assert found(advisories, deb("libc6", "2.27-3ubuntu1.6", "glibc", "ubuntu", "18.04")) == [
        ("UBUNTU-CVE-2024-2961", "libc6", "2.27-3ubuntu1.6+esm2", Level.HIGH)
    ]
    assert found(advisories, deb("libc6", "2.39-0ubuntu8.1", "glibc", "ubuntu", "24.04")) == []


def test_alpine(advisories: Advisories) -> None:
    (package,) = read_apk(b"P:ssl_client\nV:1.36.1-r15\nA:x86_64\nL:GPL-2.0-only\no:busybox\n\n")
    installed = replace(package, distribution="alpine", release="3.19.1")
    assert found(advisories, installed) == [
        ("ALPINE-CVE-2023-42366", "ssl_client", "1.36.1-r16", Level.MEDIUM)
    ]
    mended = Package("apk", "ssl_client", "1.36.1-r16", "", "", "alpine", "3.19.1", "busybox")
    assert found(advisories, mended) == []


@pytest.mark.parametrize(
    ("package", "advisory"),
    [
        (rpm("expat", "2.2.5-11.el8", "almalinux", "8.9"), "ALSA-2024:1615"),
        (rpm("expat", "2.5.0-1.el9", "rocky", "9.3"), "RLSA-2024:1530"),
        (rpm("expat", "2.5.0-1.el9_3.1", "rocky", "9.3"), ""),
        (rpm("expat-devel", "2.5.0-1.el9", "rhel", "9.3", ("expat", "2.5.0-1.el9")), "RHSA-2024:1530"),
        (rpm("libexpat1", "2.4.4-150400.3.12", "sles", "15.5", ("expat", "2.4.4-150400.3.12")), "SUSE-SU-2024:1129-1"),
        (rpm("libexpat1", "2.4.4-1", "opensuse-leap", "15.5", ("expat", "2.4.4-1")), "SUSE-SU-2024:1129-1"),
    ],
)  # fmt: skip
def test_rpm(advisories: Advisories, package: Package, advisory: str) -> None:
    assert [item[0] for item in found(advisories, package)] == ([advisory] if advisory else [])


def test_languages(advisories: Advisories) -> None:
    packages = [
        Package("pypi", "Jinja2", "3.1.3"),
        Package("npm", "cross-spawn", "7.0.3"),
        Package("npm", "crossspawn", "1.0.0"),
    ]
    assert found(advisories, *packages) == [
        ("MAL-2025-0001", "crossspawn", None, Level.CRITICAL),
        ("GHSA-3xgq-45jj-v275", "cross-spawn", "7.0.5", Level.HIGH),
        ("GHSA-h75v-3vvj-5mfj", "jinja2", "3.1.4", Level.MEDIUM),
    ]
    assert found(advisories, Package("npm", "cross-spawn", "6.0.5"))[0][2] == "6.0.6"
    assert found(advisories, Package("npm", "cross-spawn", "6.0.6"), Package("pypi", "jinja2", "3.1.4")) == []
