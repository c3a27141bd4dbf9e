"""The packages of an image as an SPDX 2.3 document in JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from slipway.build.attest.packages import Package
from slipway.oci import Digest

MEDIA_TYPE = "application/spdx+json"
PREDICATE_TYPE = "https://spdx.dev/Document"
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9.-]+")
# What a package says of its licence is often no SPDX expression; only what has the form of a single id is passed on.
_LICENCE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_NONE = "NOASSERTION"


def document(
    name: str, digest: Digest, packages: Sequence[Package], notes: Sequence[str], created: str
) -> dict[str, Any]:
    """``name`` is the repository, ``created`` an RFC 3339 time. The same image has the same document."""
    image = "SPDXRef-Image"
    items = [_package(item) for item in packages]
    creation: dict[str, Any] = {"created": created[:19] + "Z", "creators": ["Tool: slipway"]}
    if notes:
        creation["comment"] = "\n".join(notes)
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}@{digest}",
        "documentNamespace": f"https://slipway.invalid/spdx/{name}/{digest.hex}",
        "creationInfo": creation,
        "documentDescribes": [image],
        "packages": [
            {
                "SPDXID": image,
                "name": name,
                "versionInfo": str(digest),
                "downloadLocation": _NONE,
                "filesAnalyzed": False,
                "primaryPackagePurpose": "CONTAINER",
                "checksums": [{"algorithm": digest.algorithm.upper(), "checksumValue": digest.hex}],
                "externalRefs": [
                    _purl(f"pkg:oci/{name.rpartition('/')[2]}@{digest.algorithm}%3A{digest.hex}")
                ],
            },
            *items,
        ],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", image),
            *(_relation(image, "CONTAINS", item["SPDXID"]) for item in items),
        ],
    }


def encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _package(item: Package) -> dict[str, Any]:
    mark = hashlib.sha256(item.purl.encode()).hexdigest()[:12]
    return {
        "SPDXID": f"SPDXRef-{item.kind}-{_NOT_IN_ID.sub('-', item.name)[:80]}-{mark}",
        "name": item.name,
        "versionInfo": item.version,
        "downloadLocation": _NONE,
        "filesAnalyzed": False,
        "licenseConcluded": _NONE,
        "licenseDeclared": item.licence if _LICENCE_ID.fullmatch(item.licence) else _NONE,
        "copyrightText": _NONE,
        "externalRefs": [_purl(item.purl)],
    }


def _purl(text: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": text}


def _relation(first: str, kind: str, second: str) -> dict[str, str]:
    return {"spdxElementId": first, "relationshipType": kind, "relatedSpdxElement": second}
