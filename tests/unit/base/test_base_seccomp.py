"""The default system call filter and the default capabilities."""

from __future__ import annotations

import itertools
import os

from slipway.base import capabilities, seccomp


def names(profile: dict[str, object], action: str = "SCMP_ACT_ALLOW") -> set[str]:
    rules = profile["syscalls"]
    assert isinstance(rules, list)
    return set(itertools.chain.from_iterable(rule["names"] for rule in rules if rule["action"] == action))


def test_dockers_default_capabilities() -> None:
    assert capabilities.mask(capabilities.DEFAULT) == 0xA80425FB
    assert capabilities.NUMBERS["SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CHECKPOINT_RESTORE"] == 40


def test_the_default_profile_denies_by_default_and_allows_ordinary_work() -> None:
    profile = seccomp.default_profile(capabilities.DEFAULT)
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert {"read", "openat2", "execve", "chroot", "ptrace", "statx", "setxattr"} <= names(profile)
    assert names(profile).isdisjoint(
        {
            "mount",
            "unshare",
            "setns",
            "bpf",
            "keyctl",
            "io_uring_setup",
            "userfaultfd",
            "init_module",
            "kexec_load",
        }
    )


def test_new_namespaces_are_refused_without_the_capability() -> None:
    rules = seccomp.default_profile(capabilities.DEFAULT)["syscalls"]
    clone = next(rule for rule in rules if rule["names"] == ["clone"])
    assert clone["args"][0]["value"] == 0x7E020000
    assert {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38} in rules


def test_a_capability_brings_its_calls() -> None:
    more = seccomp.default_profile([*capabilities.DEFAULT, "SYS_ADMIN"])
    assert {"mount", "unshare", "clone3"} <= names(more)
    assert "clone3" not in names(more, "SCMP_ACT_ERRNO")


def test_the_profile_holds_in_a_process() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(capabilities.DEFAULT))
    assert len(program) % 8 == 0
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from slipway.base import linux

            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.install(program)
            os.stat("/")
            try:
                linux.unshare(linux.CLONE_NEWUSER)
            except PermissionError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
