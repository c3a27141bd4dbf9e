"""Packages of an SPDX 2.3 document, as their package URLs tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from slipway.errors import Invalid

_MAX_PURL = 4000
_MAX_PACKAGES = 200_000


@dataclass(frozen=True, slots=True)
class Installed:
    """One installed package. ``kind`` is the purl's type, ``distribution`` and ``release`` are those of its
    qualifier ``distro`` (``debian``, ``12``); ``source`` is the package it was built from, itself if not told."""

    purl: str
    kind: str
    name: str
    version: str
    distribution: str = ""
    release: str = ""
    source: str = ""
    source_version: str = ""


def packages_of(document: Mapping[str, Any]) -> list[Installed]:
    """The packages that have a purl, each once, the image itself not. Raises ``Invalid`` if it is no such document.

    Documents of other tools are read too; what has no purl, or one that cannot be read, is passed over.
    """
    packages = document.get("packages", [])
    if not str(document.get("spdxVersion", "")).startswith("SPDX-2.") or not isinstance(packages, list):
        raise Invalid("no SPDX document of version 2", hint="findings are made from SPDX 2.3 in JSON")
    if len(packages) > _MAX_PACKAGES:
        raise Invalid(f"the document has {len(packages)} packages, at most {_MAX_PACKAGES} are matched")
    found: dict[str, Installed] = {}
    for package in packages:
        references = package.get("externalRefs") if isinstance(package, dict) else None
        for reference in references if isinstance(references, list) else ():
            text = reference.get("referenceLocator") if isinstance(reference, dict) else None
            if isinstance(text, str) and text not in found and (item := installed(text)) is not None:
                found[text] = item
    return list(found.values())


def installed(purl: str) -> Installed | None:
    """A purl with a version, ``pkg:deb/debian/libc6@2.36-9?distro=debian-12&upstream=glibc``; else ``None``."""
    if not purl.startswith("pkg:") or len(purl) > _MAX_PURL or not purl.isprintable():
        return None
    path, _, query = purl[4:].partition("#")[0].partition("?")
    path, _, version = path.rpartition("@")
    kind, _, names = path.strip("/").partition("/")
    namespace, _, name = names.rpartition("/")
    kind, namespace, name, version = kind.lower(), _plain(namespace), _plain(name), _plain(version)
    if not name or not version or kind == "oci":
        return None
    told = {key: _plain(value) for key, _, value in (item.partition("=") for item in query.split("&"))}
    if kind == "npm" and namespace:
        name = f"{namespace}/{name}"
    if kind == "rpm" and told.get("epoch", "0") != "0" and ":" not in version:
        version = f"{told['epoch']}:{version}"
    if kind not in ("deb", "apk", "rpm"):
        return Installed(purl, kind, name, version, "", "", name, version)
    distribution, release = _distro(told.get("distro", ""), namespace)
    source, source_version = _upstream(kind, told.get("upstream", ""), version)
    return Installed(
        purl, kind, name, version, distribution, release, source or name, source_version or version
    )


def _distro(text: str, namespace: str) -> tuple[str, str]:
    """``debian-12`` or ``opensuse-leap-15.6`` in its two parts; a release alone belongs to the namespace."""
    distribution, dash, release = text.rpartition("-")
    if not dash:
        distribution, release = ("", text) if text != namespace else (namespace, "")
    return (distribution or namespace).lower(), release


def _upstream(kind: str, text: str, version: str) -> tuple[str, str]:
    """``name``, ``name@version``, or a source package's file ``bash-5.1.8-6.el9.src.rpm``, whose epoch is that of
    what was built from it."""
    if kind == "rpm" and text.endswith(".rpm"):
        parts = text.removesuffix(".rpm").removesuffix(".nosrc").removesuffix(".src").rsplit("-", 2)
        if len(parts) < 3:
            return "", ""
        epoch, colon, _ = version.partition(":")
        return parts[0], f"{epoch}{colon}{parts[1]}-{parts[2]}" if colon else f"{parts[1]}-{parts[2]}"
    name, _, told = text.partition("@")
    return name, told


def _plain(text: str) -> str:
    """Percent-decoded, and so that it can be shown and stored."""
    return "".join(letter if letter.isprintable() else "?" for letter in unquote(text))
