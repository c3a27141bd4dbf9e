"""The records of dpkg, apk, pip and npm: bytes in, packages out. Malformed entries are passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from slipway.build.attest.packages import MAX_TEXT, Package


def read_dpkg(data: bytes) -> Iterator[Package]:
    """``/var/lib/dpkg/status`` (deb-control paragraphs). Only what is installed; distroless files have no Status."""
    for fields in _paragraphs(data):
        if "installed" in fields.get("Status", "installed").split():
            for package in _package(
                "deb", fields.get("Package"), fields.get("Version"), fields.get("Architecture")
            ):
                # ``Source: glibc`` or ``Source: glibc (2.36-9)``, the version only where it is another.
                source, _, version = fields.get("Source", "").partition("(")
                yield _built_from(package, source, version.partition(")")[0])


def read_apk(data: bytes) -> Iterator[Package]:
    """``/lib/apk/db/installed``: one letter, a colon, the value; a blank line ends a package."""
    for fields in _paragraphs(data):
        for package in _package("apk", fields.get("P"), fields.get("V"), fields.get("A"), fields.get("L")):
            yield _built_from(package, fields.get("o", ""))


def read_pip(data: bytes) -> Iterator[Package]:
    """``METADATA`` or ``PKG-INFO`` (core metadata): headers up to the first blank line."""
    head = data.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    for fields in _paragraphs(head):
        licence = fields.get("License-Expression") or fields.get("License", "")
        yield from _package("pypi", fields.get("Name"), fields.get("Version"), "", licence.partition("\n")[0])


def read_npm(data: bytes) -> Iterator[Package]:
    """``package.json`` of an installed module."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    licence = value.get("license")
    if isinstance(licence, dict):
        licence = licence.get("type")
    yield from _package("npm", value.get("name"), value.get("version"), "", licence)


def read_os_release(data: bytes) -> tuple[str, str]:
    """The distribution's ID, and its VERSION_ID; releases in the making have only a VERSION_CODENAME."""
    found: dict[str, str] = {}
    for line in data.decode(errors="replace").splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name.strip(), value.strip().strip("\"'")[:40])
    return found.get("ID", ""), found.get("VERSION_ID") or found.get("VERSION_CODENAME", "")


def _built_from(package: Package, source: str, version: str = "") -> Package:
    """The package with its source, unless that has the same name and version."""
    source, version = _text(source), _text(version)
    version = "" if version == package.version else version
    if not source or (source == package.name and not version):
        return package
    return replace(package, source=source, source_version=version)


def _package(
    kind: str, name: object, version: object, architecture: object = "", licence: object = ""
) -> Iterator[Package]:
    """Nothing unless there is a name and a version; every text is bounded and can be encoded."""
    if isinstance(name, str) and isinstance(version, str) and name.strip() and version.strip():
        yield Package(kind, _text(name), _text(version), _text(architecture), _text(licence))


def _text(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text.encode(errors="replace").decode()[:MAX_TEXT]


def _paragraphs(data: bytes) -> Iterator[dict[str, str]]:
    """``Name: value`` lines in groups, a line that begins with a space continuing the value before it."""
    fields: dict[str, str] = {}
    last = ""
    for raw in (*data.split(b"\n"), b""):
        line = raw.rstrip(b"\r").decode(errors="replace")
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last and len(fields[last]) < MAX_TEXT:
                fields[last] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            if colon:
                last = name.strip()
                fields[last] = value.strip()
