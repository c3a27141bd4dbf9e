"""A Debian root and a bench on which to run steps in it, for tests that need root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slipway.base.ids import new_id
from slipway.build.own_image import PACKAGES as WORKER_PACKAGES
from slipway.build.own_image import PLATFORM
from slipway.build.sandbox import Limits, Network, NetworkAttacher, RunStep, Sandbox, Sandboxes, StepMount
from slipway.snapshots import Active

ROOT_VARIABLE = "SLIPWAY_TEST_ROOT"
_KEPT = Path("/var/cache/slipway-tests/bookworm.tar")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLENTY = Limits(cpus=2, memory=1 << 30, pids=500, seconds=120)


def debian_tar() -> Path:
    """A small Debian as a tar: what ``SLIPWAY_TEST_ROOT`` names, else one made once and kept for later runs."""
    named = os.environ.get(ROOT_VARIABLE)
    return _made(Path(named) if named else _KEPT, "--variant=minbase")


def docker_tar() -> Path:
    """A Debian with a Docker daemon in it, made once."""
    return _made(
        _KEPT.with_name("docker.tar"), "--variant=minbase", "--include=docker.io,iptables,ca-certificates"
    )


def buildah_tar() -> Path:
    """A Debian with buildah in it, made once."""
    return _made(_KEPT.with_name("buildah.tar"), "--variant=minbase", "--include=buildah,ca-certificates")


def worker_tar() -> Path:
    """The Debian that workers in Pods stand on, made once."""
    return _made(_KEPT.with_name("worker.tar"), "--variant=minbase", f"--include={','.join(WORKER_PACKAGES)}")


def platform_tar() -> Path:
    """The Debian that the platform's own image stands on, made once."""
    options = ("--variant=minbase", f"--include={','.join(PLATFORM.packages)}")
    return _made(_KEPT.with_name("platform.tar"), *options)


def _made(archive: Path, *options: str) -> Path:
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        made = archive.with_name(f"{new_id()}.tar")
        subprocess.run(["mmdebstrap", "--quiet", *options, "bookworm", made], check=True)
        made.rename(archive)
    return archive


def unpack_debian_root(target: Path) -> Path:
    """A small Debian at ``target``."""
    target.mkdir(parents=True)
    archive = debian_tar()
    subprocess.run(["tar", "--extract", "--preserve-permissions", "-C", target, "-f", archive], check=True)
    return target


@dataclass(slots=True)
class Ran:
    """How a step ended, what it said, and where its changes are."""

    status: int
    stdout: str
    stderr: str
    active: Active

    @property
    def upper(self) -> Path:
        return self.active.upper

    @property
    def changes(self) -> list[str]:
        """Every path in the upper directory."""
        return sorted(str(path.relative_to(self.upper)) for path in self.upper.rglob("*"))


@dataclass(slots=True)
class Bench:
    """Runs shell commands as steps over ``lowers``; a sandbox of its own, unless it is given another's."""

    directory: Path
    lowers: Sequence[Path]
    sandbox: Sandbox | None = None
    actives: list[Active] = field(default_factory=list)

    @property
    def open_sandbox(self) -> Sandbox:
        assert self.sandbox is not None
        return self.sandbox

    async def open(self, limits: Limits = PLENTY, network: NetworkAttacher | None = None) -> Bench:
        self.sandbox = await Sandboxes(self.directory, network).open(new_id(), limits)
        return self

    async def close(self) -> None:
        if self.sandbox is not None:
            await self.sandbox.close()
        for active in self.actives:
            shutil.rmtree(active.upper.parent)

    def active(self) -> Active:
        name = new_id()
        made = Active(name, self.directory / name / "fs", self.directory / name / "work", None)
        made.upper.mkdir(parents=True)
        made.work.mkdir()
        self.actives.append(made)
        return made

    async def run(
        self,
        command: str | Sequence[str],
        *,
        user: tuple[int, int, Sequence[int]] = (0, 0, ()),
        cwd: str = "/",
        env: Sequence[tuple[str, str]] = (),
        network: Network = "none",
        mounts: Sequence[StepMount] = (),
        lowers: Sequence[Path] | None = None,
    ) -> Ran:
        """Run a command (a string through the shell) to its end."""
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        step = RunStep(
            list(self.lowers if lowers is None else lowers), self.active(), argv, [("PATH", PATH), *env], cwd,
            user[0], user[1], user[2], network, mounts=mounts,
        )  # fmt: skip
        said: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        status = await self.open_sandbox.run(step, lambda stream, data: said[stream].append(data))
        out, err = (b"".join(said[stream]).decode(errors="replace") for stream in ("stdout", "stderr"))
        return Ran(status, out, err, step.active)

    async def check(self, command: str, **options: object) -> str:
        """The output of a command that has to succeed."""
        ran = await self.run(command, **options)  # type: ignore[arg-type]
        assert ran.status == 0, f"{shlex.quote(command)}: {ran.status}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout.strip()
