"""The default system call filter: Docker's allow list, in the OCI runtime's shape and as a loadable program.

``default_profile`` is what ``config.json`` takes under ``linux.seccomp``; ``compile_profile`` makes the BPF program of
it, through libseccomp, which every host with an OCI runtime has; ``install`` puts the calling process under such a
program and needs nothing but the kernel, so that a worker can be handed one that was compiled before.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Collection
from typing import Any

from slipway.base import linux

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_COMPARE = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_UNKNOWN = -1


class _Argument(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int), ("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64),
    )  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def default_profile(capabilities: Collection[str]) -> dict[str, Any]:
    """The profile for a process with these capabilities: some calls are allowed with one only."""
    from importlib import resources  # slow to import, and a worker that only installs does without

    document = json.loads(resources.files("slipway.base").joinpath("seccomp_profile.json").read_text())
    rules: list[dict[str, Any]] = [{"names": document["allow"], "action": "SCMP_ACT_ALLOW"}]
    rules += document["conditional"]
    for name, calls in document["with_capability"].items():
        if name in capabilities:
            rules.append({"names": calls, "action": "SCMP_ACT_ALLOW"})
    if "SYS_ADMIN" not in capabilities:
        rules += document["without_sys_admin"]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": document["architectures"].get(os.uname().machine, []),
        "syscalls": rules,
    }


def compile_profile(profile: dict[str, Any]) -> bytes:
    """The profile as a BPF program for this machine. Raises ``OSError`` when libseccomp is missing or refuses."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | profile["defaultErrnoRet"])))
    if not context:
        raise OSError("libseccomp could not make a filter")
    try:
        for architecture in profile["architectures"]:
            name = architecture.removeprefix("SCMP_ARCH_").lower().encode()
            token = library.seccomp_arch_resolve_name(name)
            if token:
                library.seccomp_arch_add(context, ctypes.c_uint32(token))
        for rule in profile["syscalls"]:
            _add(library, context, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, rule: dict[str, Any]) -> None:
    action = _ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else _ERRNO | rule.get("errnoRet", 1)
    arguments = [
        _Argument(item["index"], _COMPARE[item["op"]], item["value"], item.get("valueTwo", 0))
        for item in rule.get("args", [])
    ]
    array = (_Argument * len(arguments))(*arguments) if arguments else None
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            continue  # newer than this host's libseccomp: then it stays forbidden
        result = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), ctypes.c_int(number), ctypes.c_uint(len(arguments)), array
        )
        if result < 0 and -result != 22:  # EINVAL: not on this architecture
            raise OSError(-result, f"libseccomp refused the rule for {name}")


def _export(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    fd = os.memfd_create("seccomp")
    try:
        result = library.seccomp_export_bpf(context, fd)
        if result < 0:
            raise OSError(-result, "libseccomp could not write the filter")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def load(profile: dict[str, Any]) -> None:
    """Put the calling process under ``profile``, for good."""
    install(compile_profile(profile))


def install(program: bytes) -> None:
    """Put the calling process under ``program``, for good. Needs CAP_SYS_ADMIN in its user namespace."""
    buffer = _Program(len(program) // 8, program)
    linux.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(buffer))
