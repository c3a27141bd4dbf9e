"""Control groups by which the cluster's processes are found, counted and killed, whoever started them.

A group exists in every hierarchy of the machine. On machines with the version 1 controllers the nodes get one as the
root of what they see, so that each kubelet has a tree to itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway.base.cgroups import ROOT, layout
from slipway.errors import Unavailable, Unsupported
from slipway.testing.kubernetes.site import PREFIX

_ENTER = (
    'for group in $GROUPS_TO_ENTER; do echo 0 > "$group/cgroup.procs" || exit 1; done; umask 022; exec "$@"'
)
_KILL_SECONDS = 30.0


def hierarchies() -> list[Path]:
    """The mount points of all hierarchies. Raises ``Unsupported`` without the version 1 controllers that this
    Kubernetes needs."""
    if layout() not in ("hybrid", "v1"):
        raise Unsupported(
            "the test cluster needs the version 1 control group controllers",
            hint="boot with systemd.unified_cgroup_hierarchy=0, or set KUBECONFIG to another cluster",
        )
    return [path for path in ROOT.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists()]


def start(
    name: str, words: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Start a process in the group ``name`` that outlives us. What it says goes to ``log``."""
    directories = []
    for hierarchy in hierarchies():
        directory = hierarchy / PREFIX / name
        for made in (directory.parent, directory):
            made.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, which then takes no process
                if (made / file).exists():
                    (made / file).write_text((made.parent / file).read_text())
        directories.append(str(directory))
    with log.open("ab") as stream:
        process = subprocess.Popen(
            ["setsid", "--fork", "sh", "-c", _ENTER, "sh", *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": "/root", **(environment or {})}
            | {"GROUPS_TO_ENTER": " ".join(directories)},
        )  # fmt: skip
        if process.wait():
            raise Unavailable(f"{words[0]} could not be started", hint=f"see {log}")


def pids(name: str) -> set[int]:
    """Of everything in the group ``name`` and the groups in it."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for path in (hierarchy / PREFIX / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in path.read_text().split())
    return found


def kill(name: str) -> None:
    """End everything in the group ``name`` at once and remove the group. Raises ``Unavailable`` when it lives on."""
    end = time.monotonic() + _KILL_SECONDS
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            (hierarchy / PREFIX / name / "cgroup.kill").write_text("1")
    while alive := pids(name):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            raise Unavailable(f"processes of {name} cannot be killed: {sorted(alive)}")
        time.sleep(0.05)
    for hierarchy in hierarchies():
        _remove(hierarchy / PREFIX / name, end)


def names() -> list[str]:
    """The groups that there are, with or without a process."""
    found = {path.name for top in hierarchies() for path in (top / PREFIX).glob("*") if path.is_dir()}
    return sorted(found)


def remove_all() -> None:
    for name in names():
        kill(name)
    for hierarchy in hierarchies():
        _remove(hierarchy / PREFIX, time.monotonic() + _KILL_SECONDS)


def _remove(top: Path, end: float) -> None:
    """Remove a tree of groups without processes."""
    for directory, _, _ in os.walk(top, topdown=False):
        while True:
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:  # the kernel still counts a process that has just ended
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
