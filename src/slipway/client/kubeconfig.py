"""A kubeconfig on this machine, made complete in itself before it is sent: servers read no files for others."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway.errors import Invalid, NotFound

_INLINED = (
    ("certificate-authority", "certificate-authority-data", True),
    ("client-certificate", "client-certificate-data", True),
    ("client-key", "client-key-data", True),
    ("tokenFile", "token", False),
)


def portable(text: str, context: str, directory: Path) -> str:
    """One context of a kubeconfig and nothing of the others, with the files it names put in.

    ``context`` is its current one if empty; ``directory`` is where relative paths begin. What a program would have to
    be asked for stays as it is, for the server to refuse. Raises ``Invalid`` and ``NotFound``.
    """
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"the kubeconfig is no YAML: {str(error)[:300]}") from error
    if not isinstance(document, dict):
        raise Invalid("the kubeconfig is no mapping", hint="give the file that kubectl uses, ~/.kube/config")
    name = context or document.get("current-context")
    if not name:
        raise Invalid("the kubeconfig has no current-context", hint="name one with --context")
    chosen = _entry(document, "contexts", name)
    inner = chosen.get("context") or {}
    cluster = _entry(document, "clusters", inner.get("cluster"))
    users = [_entry(document, "users", inner["user"])] if inner.get("user") else []
    return str(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": name,
                "contexts": [chosen],
                "clusters": [{**cluster, "cluster": _inlined(cluster.get("cluster"), directory)}],
                "users": [{**user, "user": _inlined(user.get("user"), directory)} for user in users],
            }
        )
    )


def _entry(document: Mapping[str, Any], plural: str, name: Any) -> dict[str, Any]:
    entries = document.get(plural)
    found = [item for item in entries if isinstance(item, dict)] if isinstance(entries, list) else []
    for item in found:
        if item.get("name") == name:
            return item
    known = ", ".join(str(item.get("name")) for item in found[:20]) or "none"
    raise NotFound(f"the kubeconfig has no {plural[:-1]} {str(name)[:100]!r}", hint=f"it has: {known}")


def _inlined(section: Any, directory: Path) -> dict[str, Any]:
    found = dict(section) if isinstance(section, dict) else {}
    for by_path, inline, encoded in _INLINED:
        path = found.pop(by_path, None)
        if not path or found.get(inline):
            continue
        try:
            data = (directory / str(path)).read_bytes()
            found[inline] = base64.b64encode(data).decode() if encoded else data.decode().strip()
        except (OSError, ValueError) as error:
            raise Invalid(
                f"{by_path} of the kubeconfig, {path}, cannot be read: {getattr(error, 'strerror', error)}"
            ) from error
    return found
