"""RUN: a process over a stage's layers, and the layer it leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from slipway.build.attest import Watch
from slipway.build.devices import Devices
from slipway.build.emulation import can_run
from slipway.build.explain import Inputs
from slipway.build.keys import key_of
from slipway.build.made import Made
from slipway.build.plan import RunOp
from slipway.build.policy import HOST_NETWORK, INSECURE
from slipway.build.sandbox import RunStep
from slipway.build.solve.disk import bounded
from slipway.build.solve.later import Ahead
from slipway.build.solve.layers import LayerMaker, MadeLayer
from slipway.build.solve.mounting import Looked, Mounting, Prepared
from slipway.build.solve.report import Step
from slipway.build.solve.workers import Workers
from slipway.content import holding
from slipway.errors import Denied, Failed, Unsupported
from slipway.layers import Layer
from slipway.oci import Digest, Platform, chain_id
from slipway.snapshots import LayerRef, SnapshotStore
from slipway.snapshots.accounts import resolve_user

_LEASE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Pending:
    """A step that is done, and the task that will write its layer."""

    ahead: Ahead
    task: asyncio.Task[MadeLayer]

    async def finished(self) -> Made:
        """The layer after all, now."""
        self.ahead.wanted.set()
        made: MadeLayer = await asyncio.shield(self.task)
        return made.made


class Runner:
    """Runs the RUN operations of one build."""

    def __init__(
        self, maker: LayerMaker, workers: Workers, snapshots: SnapshotStore, mounting: Mounting,
        granted: frozenset[str],
    ) -> None:  # fmt: skip
        self._granted = granted
        self._maker = maker
        self._workers = workers
        self._snapshots = snapshots
        self._mounting = mounting

    async def run(
        self, operation: RunOp, layers: tuple[LayerRef, ...], step: Step, platform: Platform
    ) -> Made:
        """Raises ``Denied`` for a step that needs an entitlement the project was not given."""
        key, make = await self._keyed(operation, layers, step, platform)
        return await self._maker.layer(key, step, operation.created_by, make)

    async def run_ahead(
        self, operation: RunOp, layers: tuple[LayerRef, ...], step: Step, platform: Platform,
        failed: Callable[[str], None],
    ) -> Made | Pending:  # fmt: skip
        """As ``run``, but returns when the process has ended if nobody has the layer, which is then written later."""
        ahead = Ahead()
        key, make = await self._keyed(operation, layers, step, platform, ahead)
        solver = self._maker.solver

        async def work() -> MadeLayer:
            async with holding(solver.blobs, "layer of a stage", ttl=_LEASE) as lease:
                maker = self._maker.under(lease)
                description = operation.created_by
                return await maker.made(key, description, make, fresh=step.fresh, wanted=ahead.wanted)

        task = solver.later.begin(ahead, work(), failed)
        try:
            await asyncio.wait({task, ahead.ran}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await ended(task)
            raise
        if ahead.active is not None:
            return Pending(ahead, task)
        found: MadeLayer = await task
        step.cached = found.cached
        return await self._maker.adopt(key, found)

    async def _keyed(
        self, operation: RunOp, layers: tuple[LayerRef, ...], step: Step, platform: Platform,
        ahead: Ahead | None = None,
    ) -> tuple[str, Callable[[], Awaitable[Layer | None]]]:  # fmt: skip
        """The step's key, and what makes its layer."""
        self._require(operation.network == "host", HOST_NETWORK, "--network=host")
        self._require(operation.security == "insecure", INSECURE, "--security=insecure")
        devices = await asyncio.to_thread(self._maker.solver.devices, operation.devices, self._granted)
        for name in devices.missing:
            step.output(
                "stderr", f"the device {name} is not there or not granted: running without it\n".encode()
            )
        chain = chain_id([layer.diff_id for layer in layers])
        looked = await self._mounting.looked(operation)
        shown = looked.parts + [f"device {name}" for name in devices.names]
        key = key_of("run", (str(chain), operation.definition(), *shown))
        step.key = key
        step.inputs = lambda: Inputs(key, operation.created_by, _facts(operation, chain, shown))
        return key, lambda: self._execute(operation, layers, step, platform, devices, looked, ahead)

    def _require(self, needed: bool, entitlement: str, flag: str) -> None:
        if needed and entitlement not in self._granted:
            raise Denied(
                f"RUN {flag} is not allowed in this project",
                hint=f"an administrator grants it: slipway project build-policy PROJECT --allow {entitlement}",
            )

    async def _execute(
        self, operation: RunOp, layers: tuple[LayerRef, ...], step: Step, platform: Platform, devices: Devices,
        looked: Looked, ahead: Ahead | None,
    ) -> Layer | None:  # fmt: skip
        if not can_run(platform):
            raise Unsupported(
                f"this machine cannot run programs for {platform}",
                hint="install qemu-user-static (Debian), or cross-compile: FROM --platform=$BUILDPLATFORM",
            )
        chain = await asyncio.to_thread(self._snapshots.ensure, layers)
        request: RunStep | None = None
        try:
            async with self._mounting.prepared(operation, looked) as given:
                request = await self._ready(operation, chain, given, devices)
                await self._carry_out(operation, request, given.kept, step)
            if ahead is not None:
                await asyncio.to_thread(self._snapshots.finish, request.active)
                await ahead.turn(request.active)
            return await self._committed(request)
        except BaseException:
            if request is not None:
                await self._discarded(request)
            raise

    async def _carry_out(self, operation: RunOp, request: RunStep, kept: Sequence[Path], step: Step) -> None:
        """Raises ``Failed`` for a command that fails."""
        sandbox = await self._workers.sandbox()
        work = sandbox.run(request, step.output)
        # Beside the upper directory is what it writes to mounts that are thrown away.
        status = await bounded(work, request.active.upper.parent, sandbox.limits, kept)
        step.flush()
        if status:
            raise _failed(operation, status, step)

    async def _committed(self, request: RunStep) -> Layer | None:
        watch = Watch()
        committed = await asyncio.to_thread(
            self._snapshots.commit, request.active, epoch=self._maker.epoch, through=watch.through
        )
        if committed.layer is not None:
            await self._maker.looked_at(committed.layer, watch)
        return committed.layer

    async def _ready(
        self, operation: RunOp, chain: Digest | None, given: Prepared, devices: Devices
    ) -> RunStep:
        """What ``_prepared`` makes. A thread cannot be cancelled: what it has made by then is thrown away."""
        making = asyncio.create_task(asyncio.to_thread(self._prepared, operation, chain, given, devices))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await ended(making)
            if making.exception() is None:
                await self._discarded(making.result())
            raise

    async def _discarded(self, request: RunStep) -> None:
        """Throw away what the step wrote, to the end: another step's failure may cancel this one a second time."""
        removing = asyncio.create_task(asyncio.to_thread(self._snapshots.discard, request.active))
        await ended(removing)
        removing.result()

    def _prepared(self, operation: RunOp, chain: Digest | None, given: Prepared, devices: Devices) -> RunStep:
        with self._snapshots.view(chain) as view:
            account = resolve_user(operation.user, view)
            added = self._maker.solver.surroundings.mounts(view)
        env = self._maker.solver.surroundings.env() | dict(devices.env) | dict(operation.env)
        env |= dict(operation.unkeyed) | given.env
        env.setdefault("HOME", account.home)
        return RunStep(
            self._snapshots.lowers(chain), self._snapshots.prepare(chain), operation.argv, tuple(env.items()),
            operation.cwd, account.uid, account.gid, account.groups, operation.network,
            mounts=[*added, *given.mounts], insecure=operation.security == "insecure",
            devices=devices.nodes, hostname=operation.hostname,
        )  # fmt: skip


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for what must not be left alone, however often the waiter is cancelled."""
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})


def _facts(operation: RunOp, chain: Digest | None, shown: Sequence[str]) -> dict[str, str]:
    """What the key is made of, by names that a person understands."""
    facts = {"command": json.dumps(operation.argv), "the image below": str(chain)}
    facts |= {f"the variable {name}": value for name, value in operation.env}
    facts |= {
        "WORKDIR": operation.cwd,
        "USER": operation.user,
        "--network": operation.network,
        "hostname": operation.hostname,
    }
    facts |= {"--security": operation.security, "heredocs": json.dumps(operation.files)}
    facts |= {f"the mount {mount.target}": repr(mount) for mount in operation.mounts}
    return facts | {f"what is mounted ({number})": text for number, text in enumerate(shown, 1)}


def _failed(operation: RunOp, status: int, step: Step) -> Failed:
    """Names the step and repeats its last lines, so that nobody has to scroll."""
    tail = "\n".join(f"  | {line}" for line in step.tail)
    return Failed(
        f"{operation.created_by.splitlines()[0][:200]} ended with exit code {status}"
        + (f"\n{tail}" if tail else ""),
        hint="the lines above are the end of its output",
        exit_code=status,
        step=step.label,
    )
