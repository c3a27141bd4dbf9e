"""``--secret id=NAME,src=FILE`` and ``--secret id=NAME,env=VARIABLE``."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from pathlib import Path

from slipway.errors import Invalid

_SYNOPSIS = "write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE"
_NAMES = {"src": "src", "source": "src", "env": "env", "id": "id", "type": "type"}


def read_secrets(values: Iterable[str]) -> dict[str, str]:
    """The secrets in base64, by id. An id alone means the variable of that name, or else the file."""
    found = {}
    for value in values:
        fields = _fields(value)
        name = fields.get("id", "")
        if not name:
            raise Invalid(f"the secret {value!r} has no id", hint=_SYNOPSIS)
        found[name] = base64.b64encode(_content(name, fields)).decode()
    return found


def read_agents(values: Iterable[str]) -> dict[str, str]:
    """``--ssh ID`` is the agent of this shell, ``--ssh ID=SOCKET`` another; by id."""
    found = {}
    for value in values:
        name, equals, path = value.partition("=")
        path = path if equals else os.environ.get("SSH_AUTH_SOCK", "")
        if not name or not path:
            raise Invalid(
                f"not an SSH agent: {value!r}",
                hint="start one (eval $(ssh-agent); ssh-add) or write --ssh ID=SOCKET",
            )
        found[name] = os.path.abspath(path)
    return found


def _fields(value: str) -> dict[str, str]:
    fields = {}
    for item in value.split(","):
        key, equals, text = item.partition("=")
        if key not in _NAMES or not equals:
            raise Invalid(f"not a secret: {value!r}", hint=_SYNOPSIS)
        fields[_NAMES[key]] = text
    if fields.get("type", "file") not in ("file", "env"):
        raise Invalid(f"not a type of secret: {fields['type']!r}", hint="file or env")
    return fields


def _content(name: str, fields: dict[str, str]) -> bytes:
    if "env" in fields or ("src" not in fields and (fields.get("type") == "env" or name in os.environ)):
        variable = fields.get("env", name)
        if variable not in os.environ:
            raise Invalid(f"the secret {name!r}: there is no variable {variable!r} in the environment")
        return os.environb[os.fsencode(variable)]
    path = Path(fields.get("src", name))
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"the secret {name!r}: {path} cannot be read: {error.strerror}") from error
