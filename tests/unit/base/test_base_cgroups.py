"""Control groups on imitations of the three layouts; the real one is used by the build sandbox's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.base.cgroups import Group, GroupLimits, groups_below, layout

LIMITS = GroupLimits(cpus=1.5, memory=1 << 20, pids=7)


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for name in ("cpu", "memory", "pids", "freezer"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    return tmp_path


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    assert layout(tmp_path) == "none"
    (tmp_path / "memory").mkdir()
    assert layout(tmp_path) == "v1"
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").touch()
    assert layout(tmp_path) == "hybrid"
    (tmp_path / "cgroup.controllers").touch()
    assert layout(tmp_path) == "v2"


def test_version_1_has_a_directory_in_each_hierarchy(v1: Path) -> None:
    group = Group("s/b", v1)
    group.create(LIMITS)
    assert (v1 / "cpu/s/b/cpu.cfs_quota_us").read_text() == "150000"
    assert (v1 / "memory/s/b/memory.limit_in_bytes").read_text() == str(1 << 20)
    assert (v1 / "pids/s/b/pids.max").read_text() == "7"
    assert not (v1 / "freezer/s").exists()
    assert group.missing == []
    assert group.entries == [f"{v1}/{name}/s/b/cgroup.procs" for name in ("cpu", "memory", "pids")]
    assert list(groups_below("s", v1)) == ["s/b"]


def test_version_2_passes_the_controllers_down(v2: Path) -> None:
    group = Group("s/b", v2)
    group.create(LIMITS)
    assert (v2 / "s/b/cpu.max").read_text() == "150000 100000"
    assert (v2 / "s/b/memory.max").read_text() == str(1 << 20)
    assert (v2 / "s/b/pids.max").read_text() == "7"
    assert (v2 / "cgroup.subtree_control").exists()
    assert (v2 / "s/cgroup.subtree_control").exists()
    assert not (v2 / "s/b/cgroup.subtree_control").exists()
    assert group.entries == [f"{v2}/s/b/cgroup.procs"]


def test_limits_that_cannot_be_set_are_named(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    group = Group("b", tmp_path)
    group.create(LIMITS)
    assert group.missing == ["cpu.cfs_quota_us", "pids.max"]


def test_no_limits_are_nothing_to_set(v1: Path) -> None:
    group = Group("b", v1)
    group.create(GroupLimits())
    assert group.missing == []
    assert not (v1 / "memory/b/memory.limit_in_bytes").exists()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_kills_for_memory_are_counted(version: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(version)
    group = Group("b", root)
    group.create(LIMITS)
    assert group.oom_kills() == 0
    file = "memory/b/memory.oom_control" if version == "v1" else "b/memory.events"
    (root / file).write_text("oom_kill_disable 0\nunder_oom 0\noom 9\noom_kill 3\n")
    assert group.oom_kills() == 3


def test_processes_are_added_and_listed(v1: Path) -> None:
    group = Group("b", v1)
    group.create(LIMITS)
    group.add(os.getpid())
    assert group.pids() == {os.getpid()}
