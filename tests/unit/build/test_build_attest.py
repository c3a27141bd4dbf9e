"""What is in an image, and what is said and signed about it."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from slipway.access import Vault
from slipway.build.attest import spdx
from slipway.build.attest.inventory import Inventories, LayerInventory, Watch, merged
from slipway.build.attest.packages import Package
from slipway.build.attest.project_keys import ProjectKeys
from slipway.build.attest.provenance import Material, Provenance, statement
from slipway.build.attest.readers import read_apk, read_dpkg, read_npm, read_os_release, read_pip
from slipway.build.attest.referrers import cosign_tag
from slipway.build.attest.rpm import read_rpm
from slipway.build.attest.signing import (
    envelope,
    opened,
    sign,
    simple_signing,
    verified,
    vouches_for,
)
from slipway.content import LocalStore
from slipway.layers import import_tar
from slipway.oci import Digest
from slipway.snapshots import LayerRef
from slipway.state import Database
from slipway.testing.sandboxes import debian_tar

DIGEST = Digest.of(b"image")
DPKG = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u1
Description: a library
 Package: not this one

Package: gone
Status: deinstall ok config-files
Version: 1

Package: distroless
Version: 3
"""
DPKG_SOURCES = b"""\
Package: libc6
Source: glibc
Version: 2.36-9+deb12u1

Package: libgcc-s1
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14+b1

Package: rebuilt
Source: rebuilt (1-2)
Version: 1-2+b3

Package: same
Source: same
Version: 1
"""
APK = b"C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nF:lib\nR:libc.so\n\nP:busybox\nV:1.36\nA:x86_64\n\n"
PIP = b"Metadata-Version: 2.1\nName: Flask_Thing\nVersion: 3.0\nLicense: BSD-3-Clause\n\nName: body\nVersion: 9\n"


def test_each_kind_of_record() -> None:
    assert list(read_dpkg(DPKG)) == [
        Package("deb", "libc6", "2.36-9+deb12u1", "amd64"),
        Package("deb", "distroless", "3"),
    ]
    assert list(read_apk(APK)) == [
        Package("apk", "musl", "1.2.4-r2", "x86_64", "MIT"),
        Package("apk", "busybox", "1.36", "x86_64"),
    ]
    assert list(read_pip(PIP)) == [Package("pypi", "Flask_Thing", "3.0", "", "BSD-3-Clause")]
    npm = json.dumps({"name": "@scope/thing", "version": "1.0.0", "license": {"type": "MIT"}}).encode()
    assert list(read_npm(npm)) == [Package("npm", "@scope/thing", "1.0.0", "", "MIT")]
    assert read_os_release(b'NAME="Debian"\nID="debian"\nVERSION_ID="12"\n') == ("debian", "12")
    assert read_os_release(b"ID=debian\nVERSION_CODENAME=forky\n") == ("debian", "forky")
    assert read_os_release(b"") == ("", "")


def test_source_packages() -> None:
    """Named where they differ in name or version from what is installed."""
    assert [(item.source, item.source_version) for item in read_dpkg(DPKG_SOURCES)] == [
        ("glibc", ""), ("gcc-12", "12.2.0-14"), ("rebuilt", "1-2"), ("", ""),
    ]  # fmt: skip
    apk = b"P:ssl_client\nV:1.36.1-r5\no:busybox\n\nP:busybox\nV:1.36.1-r5\no:busybox\n\n"
    assert [item.source for item in read_apk(apk)] == ["busybox", ""]


def test_package_urls() -> None:
    assert (
        Package("deb", "libc6", "2.36-9+b1", "amd64", "", "debian").purl
        == "pkg:deb/debian/libc6@2.36-9%2Bb1?arch=amd64"
    )
    libc = next(iter(read_dpkg(DPKG_SOURCES)))
    assert (
        replace(libc, architecture="amd64", distribution="debian", release="12").purl
        == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=glibc"
    )
    gcc = Package("deb", "libgcc-s1", "12.2.0-14+b1", source="gcc-12", source_version="12.2.0-14")
    assert gcc.purl == "pkg:deb/libgcc-s1@12.2.0-14%2Bb1?upstream=gcc-12%4012.2.0-14"
    ncurses = Package("rpm", "ncurses-libs", "6.2-8.el9", source="ncurses", source_version="6.2-8.el9")
    assert ncurses.purl == "pkg:rpm/ncurses-libs@6.2-8.el9?upstream=ncurses-6.2-8.el9.src.rpm"
    assert Package("npm", "@scope/thing", "1").purl == "pkg:npm/%40scope/thing@1"
    assert Package("pypi", "Flask_Thing", "3.0").purl == "pkg:pypi/flask-thing@3.0"


@pytest.mark.parametrize("reader", [read_dpkg, read_apk, read_pip, read_npm])
@given(
    data=st.binary(max_size=400) | st.text(alphabet='Package:Vrsion \n{}"[]\\u', max_size=200).map(str.encode)
)
def test_any_bytes_are_read_without_an_error(
    reader: Callable[[bytes], Iterable[Package]], data: bytes
) -> None:
    for package in reader(data):
        assert package.name
        assert package.version
        json.dumps(package.to_json()).encode()


@given(st.binary(max_size=300))
def test_what_is_no_rpm_database_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="no database of rpm"):
        list(read_rpm(data))


@pytest.fixture(scope="module")
def rpm_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The database that rpm itself leaves after installing a package it built."""
    directory = tmp_path_factory.mktemp("rpm")
    spec = directory / "tiny.spec"
    spec.write_text(
        "Name: tiny\nVersion: 1.2\nRelease: 3\nEpoch: 4\nSummary: t\nLicense: MIT\nBuildArch: noarch\n"
        "%description\nt\n%files\n%package libs\nSummary: t\n%description libs\nt\n%files libs\n"
    )
    top = ["--define", f"_topdir {directory}/top"]
    _run("rpmbuild", "-bb", *top, str(spec))
    packages = [str(path) for path in (directory / "top/RPMS").rglob("*.rpm")]
    root = directory / "root"
    _run("rpm", "--root", str(root), "--nodeps", "--noscripts", "-i", *packages)
    return next(root.rglob("rpmdb.sqlite")).read_bytes()


def _run(*words: str) -> bytes:
    return subprocess.run(words, check=True, capture_output=True).stdout


def test_rpms_own_database(rpm_database: bytes) -> None:
    assert sorted(read_rpm(rpm_database)) == [
        Package("rpm", "tiny", "4:1.2-3", "noarch", "MIT"),
        Package("rpm", "tiny-libs", "4:1.2-3", "noarch", "MIT", source="tiny", source_version="1.2-3"),
    ]


@given(st.data())
def test_a_damaged_rpm_database(rpm_database: bytes, data: st.DataObject) -> None:
    damaged = bytearray(rpm_database)
    for _ in range(data.draw(st.integers(1, 30))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = list(read_rpm(bytes(damaged)))
    except ValueError:
        return
    assert all(item.name and item.version for item in found)


def test_a_database_is_read_without_a_file(rpm_database: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One would stay behind when the server is killed."""
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert len(list(read_rpm(rpm_database))) == 2


def test_an_endless_view_in_place_of_the_table_ends(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "rpmdb.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT x AS hnum, CAST('a' AS BLOB) AS blob FROM n WHERE x < 0"
    )
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match="interrupted"):
        list(read_rpm(path.read_bytes()))


# Layers


def _layer(store: LocalStore, **files: bytes) -> LayerRef:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    stream.seek(0)
    layer = import_tar(store, stream)
    return LayerRef(layer.diff_id, layer.descriptor)


def test_layers_are_laid_over_each_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "content")
    inventories = Inventories(tmp_path / "inventories", store)
    site = "usr/lib/python3/dist-packages"
    bottom = _layer(
        store,
        **{
            "var/lib/dpkg/status": DPKG, f"{site}/a-1.dist-info/METADATA": PIP,
            "etc/os-release": b"ID=debian\nVERSION_ID=12\n",
            "app/node_modules/x/package.json": b'{"name":"x","version":"1"}',
            "app/package.json": b'{"name":"the app itself","version":"1"}',
        },
    )  # fmt: skip
    top = _layer(
        store,
        **{
            f"{site}/.wh.a-1.dist-info": b"", "app/node_modules/.wh..wh..opq": b"",
            "app/node_modules/@s/y/package.json": b'{"name":"@s/y","version":"2"}',
        },
    )  # fmt: skip
    assert [item.purl for item in inventories.image([bottom])[0]] == [
        "pkg:deb/debian/distroless@3?distro=debian-12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12",
        "pkg:npm/x@1",
        "pkg:pypi/flask-thing@3.0",
    ]
    found, notes = inventories.image([bottom, top])
    assert [item.purl for item in found][2:] == ["pkg:npm/%40s/y@2"]
    assert notes == []
    # The second time it comes from the file.
    store.path(bottom.blob.digest).unlink()
    assert inventories.image([bottom, top])[0] == found


def test_an_inventory_of_an_earlier_form_is_made_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "content")
    inventories = Inventories(tmp_path / "inventories", store)
    layer = _layer(store, **{"var/lib/dpkg/status": DPKG_SOURCES})
    first = inventories.image([layer])
    kept = tmp_path / "inventories" / layer.blob.digest.hex
    value = json.loads(kept.read_text())
    del value["form"], value["release"]
    value["records"] = {}
    kept.write_text(json.dumps(value))
    assert inventories.image([layer]) == first


def test_a_layer_that_many_ask_about_at_once_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "content")
    inventories = Inventories(tmp_path / "inventories", store)
    layer = _layer(store, **{"var/lib/dpkg/status": DPKG})
    start, read, opened = threading.Barrier(8), [], store.open

    def counted(digest: Digest) -> BinaryIO:
        read.append(digest)
        return opened(digest)

    def asked(_: int) -> list[Package]:
        start.wait(30)
        return inventories.image([layer])[0]

    monkeypatch.setattr(store, "open", counted)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(asked, range(8)))
    assert read == [layer.blob.digest]
    assert len(answers[0]) == 2
    assert answers == [answers[0]] * 8


def test_a_layer_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "content")
    layer = _layer(store, a=b"1")
    store.path(layer.blob.digest).unlink()
    packages, notes = Inventories(tmp_path / "inventories", store).image([layer])
    assert packages == []
    assert "could not be read" in notes[0]


def test_an_old_rpm_database_is_noted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "content")
    layer = _layer(store, **{"var/lib/rpm/Packages": b"x"})
    assert Inventories(tmp_path / "i", store).image([layer])[1] == [
        "var/lib/rpm/Packages: an old database of rpm, not read"
    ]


def test_a_watch_changes_nothing_that_passes(tmp_path: Path) -> None:
    """The layer has the same digest with and without it, also from a stream that is read once."""
    store = LocalStore(tmp_path / "content")
    with debian_tar().open("rb") as stream:
        layer = import_tar(store, stream)
    inventories = Inventories(tmp_path / "inventories", store)
    packages, notes = inventories.image([LayerRef(layer.diff_id, layer.descriptor)])
    names = {item.name for item in packages}
    assert {"libc6", "dpkg", "bash"} <= names
    assert all(item.distribution == "debian" and item.release for item in packages)
    assert notes == []


@given(
    st.lists(
        st.builds(
            lambda records, gone, emptied: LayerInventory(
                {path: [Package("deb", path, "1")] for path in records}, gone, emptied
            ),
            st.lists(st.sampled_from(["a/b", "a/c/d", "e", "a/c"]), max_size=3),
            st.lists(st.sampled_from(["a", "a/b", "a/c", "e"]), max_size=2),
            st.lists(st.sampled_from(["a", "a/c", ""]), max_size=1),
        ),
        max_size=4,
    )
)
def test_merging_is_what_unpacking_would_be(layers: list[LayerInventory]) -> None:
    there: set[str] = set()
    for layer in layers:
        there = {
            path
            for path in there
            if path not in layer.gone
            and not any(path.startswith(f"{name}/") for name in layer.gone)
            and not any(name == "" or path.startswith(f"{name}/") for name in layer.emptied)
        }
        there |= layer.records.keys()
    assert {item.name for item in merged(layers)[0]} == there


def test_watch_passes_entries_on_in_order() -> None:
    assert list(Watch().through([])) == []


# Documents


def test_an_spdx_document() -> None:
    packages = [
        Package("deb", "a", "1", "amd64", "MIT", "debian"),
        Package("pypi", "b", "2", "", "two words"),
    ]
    made = spdx.document("demo/web", DIGEST, packages, ["a note"], "2024-01-02T03:04:05.678901Z")
    assert made["spdxVersion"] == "SPDX-2.3"
    assert made["creationInfo"] == {
        "created": "2024-01-02T03:04:05Z", "creators": ["Tool: slipway"], "comment": "a note",
    }  # fmt: skip
    ids = [item["SPDXID"] for item in made["packages"]]
    assert len(set(ids)) == 3
    assert made["relationships"][0] == {
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Image",
    }  # fmt: skip
    assert {item["relatedSpdxElement"] for item in made["relationships"][1:]} == set(ids[1:])
    assert [item["licenseDeclared"] for item in made["packages"][1:]] == ["MIT", "NOASSERTION"]
    assert spdx.encoded(made) == spdx.encoded(
        spdx.document("demo/web", DIGEST, packages, ["a note"], "2024-01-02T03:04:05.678901Z")
    )


def test_provenance_names_secrets_and_tells_none() -> None:
    told = Provenance(
        "b1", "ada", "demo", "git+https://e.org/r", "Dockerfile", "", "linux/amd64", {"A": "1"}, ("token",),
        "2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z", (Material("docker://x", {"sha256": "ab"}),), "1.0",
    )  # fmt: skip
    predicate = told.predicate()
    assert predicate["buildDefinition"]["externalParameters"]["secrets"] == ["token"]
    assert predicate["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "docker://x", "digest": {"sha256": "ab"}}
    ]
    assert predicate["runDetails"]["metadata"]["invocationId"] == "b1"
    made = statement("demo/web", DIGEST, "https://slsa.dev/provenance/v1", predicate)
    assert made["subject"] == [{"name": "demo/web", "digest": {"sha256": DIGEST.hex}}]


# Signatures


async def test_openssl_verifies_what_we_sign(tmp_path: Path) -> None:
    import base64

    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()
    keys = ProjectKeys(database, Vault(tmp_path / "keys"))
    payload = simple_signing("demo/web", DIGEST)
    (tmp_path / "payload").write_bytes(payload)
    (tmp_path / "signature").write_bytes(base64.b64decode(sign(await keys.of("demo"), payload)))
    (tmp_path / "public.pem").write_bytes(await keys.public("demo"))
    words = ["openssl", "dgst", "-sha256", "-verify", str(tmp_path / "public.pem"), "-signature"]
    assert _run(*words, str(tmp_path / "signature"), str(tmp_path / "payload")) == b"Verified OK\n"
    await database.dispose()


def test_a_signature_is_for_one_payload_one_image_and_one_key() -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    payload = simple_signing("demo/web", DIGEST)
    signature = sign(key, payload)
    assert verified(key.public_key(), payload, signature)
    assert not verified(other.public_key(), payload, signature)
    assert not verified(key.public_key(), payload + b" ", signature)
    assert not verified(key.public_key(), payload, "no base64!")
    assert vouches_for(payload, DIGEST)
    assert not vouches_for(payload, Digest.of(b"another"))


def test_an_envelope_opens_with_its_key_alone() -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    made = envelope(key, {"a": 1})
    assert opened(key.public_key(), made) == {"a": 1}
    assert opened(other.public_key(), made) is None
    changed = json.loads(made)
    changed["payload"] = "eyJhIjoyfQ=="
    assert opened(key.public_key(), json.dumps(changed).encode()) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_no_statement(data: bytes) -> None:
    assert opened(ec.generate_private_key(ec.SECP256R1()).public_key(), data) is None
    assert not vouches_for(data, DIGEST)


def test_cosigns_tag() -> None:
    assert cosign_tag(DIGEST, "sig") == f"sha256-{DIGEST.hex}.sig"
