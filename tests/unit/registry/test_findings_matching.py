"""Packages of a document against advisories: which are meant, in which release, under which name."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.attest import spdx
from slipway.build.attest.packages import Package
from slipway.errors import Invalid
from slipway.oci import Digest
from slipway.registry.findings import (
    Advisories,
    Installed,
    Level,
    Matches,
    match,
    match_document,
    packages_of,
)
from slipway.registry.findings.purls import installed


def record(name: str, *affected: tuple[str, str, str | None], **more: Any) -> dict[str, Any]:
    """``record("X-1", ("Debian:12", "curl", "7.88.1-10+deb12u4"))``: all versions before that one."""
    return {
        "id": name, "modified": "2025-01-01T00:00:00Z",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": package},
                "ranges": [{"type": "SEMVER" if ecosystem == "npm" else "ECOSYSTEM",
                            "events": [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]}],
            }
            for ecosystem, package, fixed in affected
        ],
        **more,
    }  # fmt: skip


def cvss(vector: str) -> dict[str, Any]:
    return {"severity": [{"type": "CVSS_V3", "score": f"CVSS:3.1/{vector}"}]}


def matched(tmp_path: Path, records: list[dict[str, Any]], *purls: str) -> Matches:
    dump = tmp_path / "dump.jsonl"
    dump.write_text("".join(json.dumps(item) + "\n" for item in records))
    advisories = Advisories(tmp_path / "index.sqlite")
    advisories.load(dump)
    return match([item for item in map(installed, purls) if item is not None], advisories)


def told(found: Matches) -> list[tuple[str, str, str | None]]:
    return [(item.id, item.package, item.fixed) for item in found.findings]


def test_our_own_document(tmp_path: Path) -> None:
    packages = [
        Package("deb", "libc6", "2.36-9+deb12u1", "amd64", "", "debian", "12", "glibc"),
        Package("deb", "libgcc-s1", "12.2.0-14+b1", "amd64", "", "debian", "12", "gcc-12", "12.2.0-14"),
        Package("pypi", "Jinja_Two", "3.1.2"),
        Package("npm", "@babel/traverse", "7.23.1"),
        Package("npm", "left-pad", "1.3.0"),
    ]
    document = spdx.document("demo/web", Digest.of(b"x"), packages, [], "2024-01-02T03:04:05Z")
    records = [
        record(
            "DEBIAN-CVE-2023-4911", ("Debian:12", "glibc", "2.36-9+deb12u3"), ("Debian:13", "glibc", "2.37-12"),
            upstream=["CVE-2023-4911"], **cvss("AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"),
        ),
        record("DEBIAN-CVE-2023-4039", ("Debian:12", "gcc-12", "12.2.0-14")),
        record("GHSA-h5c8-rqwp-cp95", ("PyPI", "jinja-two", "3.1.3"), aliases=["CVE-2024-22195"],
               database_specific={"severity": "MODERATE"}),
        record("GHSA-67hx-6x53-jw92", ("npm", "@babel/traverse", "7.23.2"), summary="Babel runs code",
               aliases=["CVE-2023-45133"], **cvss("AV:L/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H")),
    ]  # fmt: skip
    dump = tmp_path / "dump.json"
    dump.write_text(json.dumps(records))
    advisories = Advisories(tmp_path / "index.sqlite")
    advisories.load(dump)
    found = match_document(json.loads(spdx.encoded(document)), advisories)
    assert told(found) == [
        ("GHSA-67hx-6x53-jw92", "@babel/traverse", "7.23.2"),
        ("DEBIAN-CVE-2023-4911", "libc6", "2.36-9+deb12u3"),
        ("GHSA-h5c8-rqwp-cp95", "Jinja_Two".lower().replace("_", "-"), "3.1.3"),
    ]
    assert [item.severity.level for item in found.findings] == [Level.CRITICAL, Level.HIGH, Level.MEDIUM]
    assert (found.worst, found.checked, found.unchecked) == (Level.CRITICAL, 5, {})
    glibc = found.findings[1]
    assert (glibc.version, glibc.source, glibc.upstream) == ("2.36-9+deb12u1", "glibc", ("CVE-2023-4911",))
    assert glibc.purl == packages[0].purl


@pytest.mark.parametrize(
    ("ecosystem", "purl", "meant"),
    [
        ("Debian:12", "pkg:deb/debian/curl@1?distro=debian-12", True),
        ("Debian:12", "pkg:deb/debian/curl@1?distro=debian-12.5", True),
        ("Debian:12", "pkg:deb/debian/curl@1?distro=bookworm", True),
        ("Debian:11", "pkg:deb/debian/curl@1?distro=debian-12", False),
        ("Debian:1", "pkg:deb/debian/curl@1?distro=debian-12", False),
        ("Debian", "pkg:deb/debian/curl@1?distro=debian-12", True),
        ("Debian:14", "pkg:deb/debian/curl@1?distro=debian-forky", True),
        ("Ubuntu:22.04:LTS", "pkg:deb/ubuntu/curl@1?distro=ubuntu-22.04", True),
        ("Ubuntu:Pro:22.04:LTS", "pkg:deb/ubuntu/curl@1?distro=ubuntu-22.04", True),
        ("Ubuntu:Pro:FIPS:22.04:LTS", "pkg:deb/ubuntu/curl@1?distro=ubuntu-22.04", False),
        ("Ubuntu:20.04:LTS", "pkg:deb/ubuntu/curl@1?distro=ubuntu-22.04", False),
        ("Ubuntu:24.10", "pkg:deb/ubuntu/curl@1?distro=ubuntu-24.10", True),
        ("Alpine:v3.19", "pkg:apk/alpine/curl@1-r0?distro=alpine-3.19.1", True),
        ("Alpine:v3.1", "pkg:apk/alpine/curl@1-r0?distro=alpine-3.19.1", False),
        ("Alpine:edge", "pkg:apk/alpine/curl@1-r0?distro=alpine-3.20_alpha20240329", True),
        ("Alpine:v3.20", "pkg:apk/alpine/curl@1-r0?distro=alpine-3.20_alpha20240329", False),
        ("Wolfi", "pkg:apk/wolfi/curl@1-r0?distro=wolfi-20230201", True),
        ("AlmaLinux:9", "pkg:rpm/almalinux/curl@1-1.el9?distro=almalinux-9.3", True),
        ("Rocky Linux:8", "pkg:rpm/rocky/curl@1-1.el9?distro=rocky-9.3", False),
        ("Red Hat:enterprise_linux:9::baseos", "pkg:rpm/redhat/curl@1-1.el9?distro=rhel-9.4", True),
        ("Red Hat:rhel_eus:9.4::baseos", "pkg:rpm/redhat/curl@1-1.el9?distro=rhel-9.4", False),
        ("SUSE:Linux Enterprise Server 15 SP5", "pkg:rpm/sles/curl@1-1?distro=sles-15.5", True),
        (
            "SUSE:Linux Enterprise Module for Basesystem 15 SP5",
            "pkg:rpm/sles/curl@1-1?distro=sles-15.5",
            True,
        ),
        ("SUSE:Linux Enterprise Server 15 SP4", "pkg:rpm/sles/curl@1-1?distro=sles-15.5", False),
        ("SUSE:Linux Enterprise Server 15 SP4", "pkg:rpm/sles/curl@1-1?distro=sles-15", False),
        ("SUSE:Linux Enterprise Server 12", "pkg:rpm/sles/curl@1-1?distro=sles-12", True),
        ("openSUSE:Leap 15.6", "pkg:rpm/opensuse/curl@1-1?distro=opensuse-leap-15.6", True),
        ("openSUSE:Tumbleweed", "pkg:rpm/opensuse/curl@1-1?distro=opensuse-tumbleweed-20240101", True),
        ("Photon OS:4.0", "pkg:rpm/photon/curl@1-1?distro=photon-4.0", True),
        ("Azure Linux:3", "pkg:rpm/azurelinux/curl@1-1?distro=azurelinux-3.0", True),
        ("Mageia:9", "pkg:rpm/mageia/curl@1-1?distro=mageia-9", True),
        ("PyPI", "pkg:pypi/curl@1", True),
        ("npm", "pkg:npm/curl@1.0.0", True),
        ("npm", "pkg:pypi/curl@1", False),
    ],
)
def test_the_release_that_is_meant(tmp_path: Path, ecosystem: str, purl: str, meant: bool) -> None:
    found = matched(tmp_path, [record("X-1", (ecosystem, "curl", None))], purl)
    assert told(found) == ([("X-1", "curl", None)] if meant else [])
    assert found.checked == int(meant)
    assert meant or next(iter(found.unchecked)).startswith("there are no advisories of ")


def test_sources(tmp_path: Path) -> None:
    records = [
        record("X-1", ("Debian:12", "glibc", "2.36-9+deb12u3")),
        record("X-2", ("Debian:12", "libc6", "9")),
        record("X-3", ("Alpine:v3.19", "busybox", "1.36.1-r6")),
        record("X-4", ("Rocky Linux:9", "ncurses", "0:6.2-10.el9")),
        record("X-5", ("AlmaLinux:9", "ncurses-libs", "6.2-10.el9")),
    ]
    found = matched(
        tmp_path, records,
        "pkg:deb/debian/libc6@2.36-9?distro=debian-12&upstream=glibc",
        "pkg:apk/alpine/ssl_client@1.36.1-r5?distro=alpine-3.19.1&upstream=busybox",
        "pkg:rpm/rocky/ncurses-libs@6.2-8.el9?distro=rocky-9.3&upstream=ncurses-6.2-8.el9.src.rpm",
        "pkg:rpm/almalinux/ncurses-libs@6.2-8.el9?distro=almalinux-9.3&upstream=ncurses-6.2-8.el9.src.rpm",
    )  # fmt: skip
    assert [(item.id, item.package, item.source) for item in found.findings] == [
        ("X-1", "libc6", "glibc"), ("X-4", "ncurses-libs", "ncurses"), ("X-5", "ncurses-libs", "ncurses-libs"),
        ("X-3", "ssl_client", "busybox"),
    ]  # fmt: skip


def test_the_sources_version_counts(tmp_path: Path) -> None:
    """A rebuild (+b1) of a fixed source is fixed; an RPM's source has the epoch of what was built from it."""
    records = [
        record("X-1", ("Debian:12", "gcc-12", "12.2.0-15")),
        record("X-2", ("Rocky Linux:9", "bind", "32:9.16.23-20.el9")),
    ]
    found = matched(
        tmp_path, records,
        "pkg:deb/debian/libgcc-s1@13.1?distro=debian-12&upstream=gcc-12%4012.2.0-14",
        "pkg:deb/debian/libgomp1@12.2.0-14%2Bb1?distro=debian-12&upstream=gcc-12%4012.2.0-15",
        "pkg:rpm/rocky/bind-libs@9.16.23-20.el9?epoch=32&distro=rocky-9.3&upstream=bind-9.16.23-20.el9.src.rpm",
        "pkg:rpm/rocky/bind-utils@32%3A9.16.23-19.el9?distro=rocky-9.3&upstream=bind-9.16.23-19.el9.src.rpm",
    )  # fmt: skip
    assert [item.package for item in found.findings] == ["bind-utils", "libgcc-s1"]


def test_what_was_not_looked_at_is_said(tmp_path: Path) -> None:
    found = matched(
        tmp_path, [record("X-1", ("Debian:12", "curl", None))],
        "pkg:deb/debian/curl@1", "pkg:deb/devuan/curl@1?distro=devuan-5", "pkg:rpm/fedora/curl@1?distro=fedora-40",
        "pkg:golang/example.org/x@v1.0.0", "pkg:deb/curl@1", "pkg:npm/x@1.0.0", "pkg:deb/debian/ok@1?distro=debian-12",
    )  # fmt: skip
    assert found.findings == ()
    assert found.worst is None
    assert found.checked == 1
    assert found.unchecked == {
        "packages of the kind golang are not matched": 1,
        "the distribution (not told) is not matched": 1,
        "the distribution devuan is not matched": 1,
        "the distribution fedora is not matched": 1,
        "the release of debian is not told": 1,
        "there are no advisories of npm": 1,
    }


def test_the_reasons_of_a_document_from_anybody_are_few(tmp_path: Path) -> None:
    purls = [f"pkg:kind{index}{'x' * 500}/a@1" for index in range(300)]
    found = matched(tmp_path, [record("X-1", ("npm", "a", None))], *purls)
    assert sum(found.unchecked.values()) == 300
    assert len(found.unchecked) <= 51
    assert max(map(len, found.unchecked)) <= 200


def test_several_records_of_one_flaw_are_one_finding(tmp_path: Path) -> None:
    records = [
        record("GHSA-a", ("PyPI", "x", "2.0"), aliases=["CVE-1", "PYSEC-1"],
               **cvss("AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")),
        record("PYSEC-1", ("PyPI", "x", "2.0.1"), aliases=["CVE-1"]),
        record("GHSA-b", ("PyPI", "x", "3.0"), aliases=["CVE-2"]),
    ]  # fmt: skip
    found = matched(tmp_path, records, "pkg:pypi/x@1.0")
    assert told(found) == [("GHSA-a", "x", "2.0.1"), ("GHSA-b", "x", "3.0")]
    assert (found.findings[0].aliases, found.findings[0].others) == (("CVE-1",), ("PYSEC-1",))


def test_an_advisory_of_several_flaws_gives_way_to_them(tmp_path: Path) -> None:
    debian = ("Debian:12", "curl", "2")
    flaws = [
        record("DEBIAN-CVE-1", debian, upstream=["CVE-1"], **cvss("AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N")),
        record("DEBIAN-CVE-2", debian, upstream=["CVE-2"]),
    ]
    both = record("DSA-1-1", debian, upstream=["CVE-1", "CVE-2"])
    more = record("DSA-2-1", debian, upstream=["CVE-1", "CVE-3"])
    purl = "pkg:deb/debian/curl@1?distro=debian-12"
    found = matched(tmp_path, [*flaws, both, more], purl)
    assert [(item.id, item.others) for item in found.findings] == [
        ("DEBIAN-CVE-1", ("DSA-1-1",)), ("DEBIAN-CVE-2", ("DSA-1-1",)), ("DSA-2-1", ()),
    ]  # fmt: skip
    assert [item.id for item in matched(tmp_path, [both], purl).findings] == ["DSA-1-1"]


def test_severity_of_the_package(tmp_path: Path) -> None:
    value = record("X-1", ("Debian:12", "ncurses", None), **cvss("AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"))
    value["affected"][0]["ecosystem_specific"] = {"urgency": "unimportant"}
    (finding,) = matched(tmp_path, [value], "pkg:deb/debian/ncurses@1?distro=debian-12").findings
    assert finding.severity.level is Level.LOW


# Documents


@pytest.mark.parametrize(
    "document", [{}, {"spdxVersion": "SPDX-3.0"}, {"spdxVersion": "SPDX-2.3", "packages": {}}]
)
def test_what_is_no_document(document: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="no SPDX document"):
        packages_of(document)


def test_packages_that_say_nothing_are_passed_over() -> None:
    def package(locator: object) -> dict[str, Any]:
        return {"externalRefs": [{"referenceLocator": locator}]}

    packages = [
        3, {}, {"externalRefs": 1}, {"externalRefs": ["x"]}, package(None), package("cpe:2.3:a:x"), package("pkg:"),
        package("pkg:deb/x"), package("pkg:oci/x@sha256%3Aab"), package("pkg:pypi/x@1"), package("pkg:pypi/x@1"),
    ]  # fmt: skip
    document = {"spdxVersion": "SPDX-2.3", "packages": packages}
    assert packages_of(document) == [Installed("pkg:pypi/x@1", "pypi", "x", "1", "", "", "x", "1")]


def test_a_purl_that_cannot_be_shown_is_passed_over() -> None:
    packages = [
        {"externalRefs": [{"referenceLocator": f"pkg:deb/x{bad}@1"}]} for bad in ("\ud800", "\x1b", "\0")
    ]
    assert packages_of({"spdxVersion": "SPDX-2.3", "packages": packages}) == []


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just("pkg:deb/debian/curl@1?distro=debian-12"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["externalRefs", "referenceLocator", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4) | JSON)
def test_any_document_is_read_or_refused(packages: Any) -> None:
    with suppress(Invalid):
        for item in packages_of({"spdxVersion": "SPDX-2.3", "packages": packages}):
            assert item.name
            assert item.version


@given(st.text(alphabet="pkg:deb/@?&=%2F#.-1rpm", max_size=60).map("pkg:".__add__) | st.text(max_size=20))
def test_any_purl_is_read_or_passed_over(text: str) -> None:
    found = installed(text)
    assert found is None or (found.name and found.version)


@given(
    st.sampled_from(["deb", "apk", "rpm", "npm", "pypi"]),
    *[st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)] * 4,
)
def test_what_the_build_writes_is_read_back(
    kind: str, name: str, version: str, source: str, other: str
) -> None:
    package = Package(kind, name, version, "amd64", "", "debian", "12", source, other)
    if kind not in ("deb", "apk", "rpm"):
        package = Package(kind, name, version)
    found = installed(package.purl)
    assert found is not None
    assert found.version == version
    if kind == "pypi":
        assert found.name == name.lower().replace("_", "-")
    elif kind != "npm" or "/" not in name:
        assert found.name == name
    if kind == "apk" and "@" not in source:
        assert (found.source, found.source_version, found.release) == (source, other, "12")
