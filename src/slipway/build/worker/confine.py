"""What a step gives up, inside its user namespace, before the command: nothing of it can be won back."""

from __future__ import annotations

import base64
import ctypes
import os
import resource
from typing import Any

from slipway.base import linux, seccomp

_KEYCTL = {"x86_64": 250, "aarch64": 219, "s390x": 280, "ppc64le": 271, "riscv64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1


def confine(specification: dict[str, Any]) -> None:
    """Docker's default capabilities and system calls, then the user and the groups.

    An insecure step keeps all capabilities and system calls; its user namespace still holds it.
    """
    _fresh_keyring()
    # A crash must not put its memory into the layer, nor start the host's crash handler.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kept = specification["capabilities"]
    if specification["insecure"]:
        kept = range(linux.last_capability() + 1)
    linux.limit_capabilities(kept)
    if not specification["insecure"]:
        seccomp.install(base64.b64decode(specification["filter"]))
    # Through the namespace's root: coming from an id it has no name for, capabilities would stay.
    os.setgroups(specification["groups"])
    gid, uid = specification["gid"], specification["uid"]
    os.setresgid(gid, gid, gid)
    os.setresuid(0, 0, 0)
    os.setresuid(uid, uid, uid)
    mask = sum(1 << number for number in kept) if uid == 0 else 0
    linux.set_capabilities(mask, mask, 0)


def _fresh_keyring() -> None:
    """Leave the session keyring of whoever started the server. Hosts without keyrings need none of this."""
    number = _KEYCTL.get(os.uname().machine)
    if number is not None:
        ctypes.CDLL(None).syscall(ctypes.c_long(number), _KEYCTL_JOIN_SESSION_KEYRING, None)
