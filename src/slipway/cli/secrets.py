"""``--secret id=NAME,src=FILE`` and ``--secret id=NAME,env=VARIABLE``."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.errors import Invalid

if TYPE_CHECKING:
    from slipway.client.ssh_agent import SshAgent

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


def read_agents(values: Sequence[str]) -> dict[str, SshAgent]:
    """``--ssh ID`` is the agent of this shell, ``--ssh ID=SOCKET`` another; by id.

    ``--ssh ID=[SOCKET,]KEY.pub[,…]`` lets steps see and use these keys of it only.
    """
    found: dict[str, SshAgent] = {}
    if not values:
        return found
    from slipway.client.ssh_agent import SshAgent

    for value in values:
        name, _, text = value.partition("=")
        if not name:
            raise Invalid(f"not an SSH agent: {value!r}", hint="write --ssh ID or --ssh ID=SOCKET")
        places = [place for place in text.split(",") if place]
        found[name] = SshAgent.named(places, os.environ.get("SSH_AUTH_SOCK", ""))
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
