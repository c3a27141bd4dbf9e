"""The OCI runtime's configuration, and specs as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import Invalid
from slipway.runtime import ContainerSpec, HealthCheck, Mount, NetworkRequest, Resources, RestartPolicy
from slipway.runtime.bundle import configuration
from slipway.snapshots.accounts import Account

SPEC = ContainerSpec("web", "demo/web:1", "sha256:" + "0" * 64, ("serve", "--port", "80"))
ROOT, USER = Account(0, 0, (), "/root"), Account(1000, 100, (27, 44), "/home/u")
DOCKERS_DEFAULT = {
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", "AUDIT_WRITE",
}  # fmt: skip


def made(spec: ContainerSpec, account: Account = ROOT) -> dict[str, Any]:
    return configuration(
        spec, account, Path("/root"), Path("/run/netns/x"), "f" * 24, {"/etc/hosts": Path("/h")}
    )


def test_root_has_dockers_capabilities_and_a_user_none() -> None:
    names = {f"CAP_{name}" for name in DOCKERS_DEFAULT}
    assert set(made(SPEC)["process"]["capabilities"]["effective"]) == names
    caps = made(SPEC, USER)["process"]["capabilities"]
    assert (set(caps["bounding"]), caps["effective"], caps["permitted"]) == (names, [], [])
    assert "ambient" not in caps
    assert "inheritable" not in caps


def test_capabilities_are_dropped_and_added() -> None:
    spec = replace(SPEC, cap_drop=("ALL",), cap_add=("cap_net_admin",))
    assert made(spec)["process"]["capabilities"]["bounding"] == ["CAP_NET_ADMIN"]
    with pytest.raises(Invalid, match="FLY"):
        made(replace(SPEC, cap_add=("FLY",)))


def test_the_image_does_not_lose_its_path_and_home() -> None:
    env = dict(
        item.split("=", 1) for item in made(replace(SPEC, env=(("PATH", "/bin"),)), USER)["process"]["env"]
    )
    assert (env["PATH"], env["HOME"], env["HOSTNAME"]) == ("/bin", "/home/u", "f" * 12)


def test_limits_are_given_to_the_runtime() -> None:
    found = made(replace(SPEC, resources=Resources(1.5, 64 << 20, 100)))["linux"]["resources"]
    assert found["memory"] == {"limit": 64 << 20}
    assert found["cpu"] == {"quota": 150_000, "period": 100_000}
    assert found["pids"] == {"limit": 100}
    assert found["devices"][0] == {"allow": False, "access": "rwm"}


def test_nothing_of_the_host_is_shared_and_dangerous_files_are_hidden() -> None:
    linux = made(SPEC)["linux"]
    assert {space["type"] for space in linux["namespaces"]} == {
        "pid",
        "ipc",
        "uts",
        "mount",
        "network",
        "cgroup",
    }
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(linux["maskedPaths"])
    assert "/proc/sys" in linux["readonlyPaths"]
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"


def test_mounts_keep_their_order_and_kind() -> None:
    mounts = (
        Mount("/data", "/v", "volume"),
        Mount("/conf", "/c", read_only=True),
        Mount("/tmp", kind="tmpfs"),
    )
    found = made(replace(SPEC, mounts=mounts))["mounts"][-3:]
    assert [item["type"] for item in found] == ["bind", "bind", "tmpfs"]
    assert ["ro" in item["options"] for item in found] == [False, True, False]


WORD = st.text(max_size=8)
SPECS = st.builds(
    ContainerSpec,
    WORD, WORD, WORD, st.lists(WORD, min_size=1, max_size=3).map(tuple),
    env=st.lists(st.tuples(WORD, WORD), max_size=2).map(tuple),
    mounts=st.lists(st.builds(Mount, WORD, WORD, st.sampled_from(["bind", "volume", "tmpfs"])), max_size=2).map(tuple),
    resources=st.builds(Resources, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    networks=st.lists(st.builds(NetworkRequest, WORD, st.lists(WORD).map(tuple)), max_size=2).map(tuple),
    restart=st.builds(RestartPolicy, st.sampled_from(["no", "always"]), st.integers(0, 9)),
    health=st.none() | st.builds(HealthCheck, st.lists(WORD, min_size=1).map(tuple)),
    labels=st.dictionaries(WORD, WORD, max_size=2),
    extra_hosts=st.lists(st.tuples(WORD, WORD), max_size=2).map(tuple),
    cap_add=st.lists(WORD, max_size=2).map(tuple),
)  # fmt: skip


@given(SPECS)
def test_specs_survive_as_json(spec: ContainerSpec) -> None:
    assert ContainerSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
