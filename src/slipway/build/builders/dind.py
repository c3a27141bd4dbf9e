"""Docker in Docker: a daemon in a privileged container, for one build."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from slipway.base import capabilities, linux
from slipway.base.ids import new_id
from slipway.build.builders.engine import Engine
from slipway.build.sandbox import Limits
from slipway.errors import SlipwayError, Unavailable

_READY_SECONDS = 60
_INNER = "/run/slipway-dind"
_TOO_NEW = ("PERFMON", "BPF", "CHECKPOINT_RESTORE")  # older daemons refuse names they do not know
LABEL = "org.slipway.dind"


@asynccontextmanager
async def inner_engine(outer: Engine, image: str, limits: Limits, mark: str) -> AsyncIterator[Engine]:
    """A daemon of its own for the block; container and volume are gone after it, whatever happens.

    It is reached by a socket in a directory that both see, so nothing listens on any network. ``mark`` tells this
    server's containers from another's.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-dind-") as directory:
        container = await _start(outer, image, directory, limits, mark)
        try:
            async with Engine(f"unix://{directory}/docker.sock") as inner:
                await _until_ready(inner, outer, container)
                yield inner
        finally:
            await asyncio.shield(_end(outer, container, Path(directory)))


async def _start(outer: Engine, image: str, directory: str, limits: Limits, mark: str) -> str:
    host: dict[str, object] = {
        "Binds": [f"{directory}:{_INNER}"], "AutoRemove": False, "PidsLimit": limits.pids or -1, **_privileges(),
    }  # fmt: skip
    if limits.memory:
        host["Memory"] = limits.memory
    if limits.cpus:
        host["NanoCpus"] = int(limits.cpus * 1_000_000_000)
    body = {
        "Image": image,
        "Entrypoint": ["dockerd", f"--host=unix://{_INNER}/docker.sock", "--data-root=/var/lib/docker"],
        "Cmd": [],
        "Volumes": {"/var/lib/docker": {}},
        "Labels": {LABEL: mark},
        "HostConfig": host,
    }
    made = await outer.ask("POST", "/containers/create", {"name": f"slipway-dind-{new_id()}"}, body)
    container = str(made["Id"])
    try:
        await outer.ask("POST", f"/containers/{container}/start")
    except BaseException:
        await asyncio.shield(_remove(outer, container))
        raise
    return container


def _privileges() -> dict[str, object]:
    """Privileged; where this machine itself lacks a capability, so that runc could not give all, what there is.

    Kernel settings and control groups are then made writable one by one, as a privileged container has them.
    """
    held = capabilities.bounding()
    if len(held) == linux.last_capability() + 1:
        return {"Privileged": True, "CgroupnsMode": "private"}
    return {
        "CapAdd": [name for name in held if name not in _TOO_NEW],
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"], "MaskedPaths": [],
        "ReadonlyPaths": [], "CgroupnsMode": "host",
        "Mounts": [{"Type": "bind", "Source": "/sys/fs/cgroup", "Target": "/sys/fs/cgroup"}],
    }  # fmt: skip


async def _until_ready(inner: Engine, outer: Engine, container: str) -> None:
    for _ in range(_READY_SECONDS * 10):
        with suppress(SlipwayError):
            await inner.ask("GET", "/version")
            return
        state = (await outer.ask("GET", f"/containers/{container}/json"))["State"]
        if not state["Running"]:
            raise Unavailable(
                f"the daemon in the container ended with exit code {state['ExitCode']}",
                hint="is the builder's image one with dockerd in it, e.g. docker:dind?",
            )
        await asyncio.sleep(0.1)
    raise Unavailable(f"the daemon in the container was not ready within {_READY_SECONDS} s")


async def _end(outer: Engine, container: str, directory: Path) -> None:
    await _remove(outer, container)
    for path in directory.iterdir():
        path.unlink(missing_ok=True)


async def _remove(outer: Engine, container: str) -> None:
    with suppress(SlipwayError):
        await outer.ask("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})


async def remove_left(outer: Engine, mark: str) -> None:
    """Remove containers that the server of this ``mark`` left when it was killed."""
    filters = json.dumps({"label": [f"{LABEL}={mark}"]})
    for item in await outer.ask("GET", "/containers/json", {"all": "1", "filters": filters}) or ():
        await _remove(outer, str(item["Id"]))
