"""``Engine`` over a cluster."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from slipway.base.clock import iso, now
from slipway.base.progress import Progress, silent
from slipway.base.tasks import first_error, to_the_end
from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Confirm, Instance, LogRecord, Move, Place, Wanted, nothing
from slipway.engines.kubernetes import limits
from slipway.engines.kubernetes.health import settled
from slipway.engines.kubernetes.kinds import WORKLOADS
from slipway.engines.kubernetes.mirror import Mirror
from slipway.engines.kubernetes.objects import Object, difference
from slipway.engines.kubernetes.observed import Observed, observe
from slipway.engines.kubernetes.ownership import take_namespace
from slipway.engines.kubernetes.patient import AWAY_SECONDS, PatientClient
from slipway.engines.kubernetes.placement import place_of
from slipway.engines.kubernetes.pods import Pods
from slipway.engines.kubernetes.pulls import SECRET, PullLogins, PullSecrets
from slipway.engines.kubernetes.record import Holding, Records
from slipway.engines.kubernetes.removal import take_away
from slipway.engines.kubernetes.render import manifests, namespace_manifest
from slipway.engines.kubernetes.render_network import urls
from slipway.engines.kubernetes.rendered import Rendered
from slipway.engines.kubernetes.rollout import Rollout
from slipway.engines.kubernetes.setting import Setting
from slipway.engines.kubernetes.soundness import Soundness
from slipway.engines.kubernetes.waiting import Limits
from slipway.engines.kubernetes.writing import Writer
from slipway.errors import SlipwayError, Unsupported
from slipway.kubernetes import ClusterClient

log = logging.getLogger(__name__)
_RENEWAL_SECONDS = 60.0


class KubernetesEngine:
    """See ``slipway.delivery.engine.Engine`` for the contract. One for a cluster."""

    def __init__(
        self, client: ClusterClient, setting: Setting, logins: PullLogins | None = None, *,
        lease_seconds: float = 15.0, away_seconds: float = AWAY_SECONDS, waits: Limits | None = None,
    ) -> None:  # fmt: skip
        """``logins``: what images are pulled with; without, they have to be public.

        ``lease_seconds``: after a kill of this server the app it was changing is another's to change so much later.
        ``away_seconds``: how long an API server that does not answer is waited for.
        """
        self._client = client
        self._setting = replace(setting, pull_secret=SECRET) if logins is not None else setting
        self._pulls = PullSecrets(logins, setting) if logins is not None else None
        self._records = Records(secrets.token_hex(8), lease_seconds)
        self._away = away_seconds
        self._waits = waits or Limits()
        self._rendered = Rendered(self._setting)
        self._mirror = Mirror(client, setting.prefix)
        self._soundness = Soundness(self._mirror, self._rendered, self._records)
        self._pods = Pods(client, setting.prefix)
        self._next_renewal = 0.0

    def refusals(self, model: Project) -> Sequence[Refusal]:
        return limits.refusals(model)

    def _patient(self, progress: Progress, seconds: float | None = None) -> PatientClient:
        """For work that somebody waits for."""
        return PatientClient(self._client, progress, self._away if seconds is None else seconds)

    async def _observe(self, client: PatientClient, app: AppRef) -> Observed:
        return await observe(client, app, self._setting.prefix)

    def _hasty(self) -> PatientClient:
        """For looking, and for what is tried again by itself."""
        return PatientClient(self._client, silent, 0)

    async def serves(self, app: AppRef, wanted: Wanted) -> bool:
        observed = await self._observe(self._patient(silent), app)
        if not self._rendered.is_so(app, wanted, observed):
            return False
        return all(settled(item) for key, item in observed.objects.items() if key.kind in WORKLOADS)

    async def roll_out(self, app: AppRef, move: Move, progress: Progress) -> None:
        for refusal in self.refusals(move.wanted.release.model):
            raise refusal.error()
        if move.to:
            raise Unsupported(f"{app} cannot be moved to {move.to}: this engine has one cluster")
        client = self._patient(progress, move.patience)
        observed = await self._observe(client, app)
        namespace = await place_of(client, app, move.wanted.release.model, observed, self._setting)
        await self._prepare(client, app, namespace)
        number = move.wanted.release.number
        async with self._records.held(client, app, namespace, observed.move, number) as holding:
            await move.confirm()
            renewed = dict(holding.record.renewed)
            old = self._rendered.of(app, move.before, namespace, renewed) if move.before is not None else []
            if move.renew:
                renewed |= dict.fromkeys(move.renew, iso(now()))
                await self._records.write(client, app, holding, renewed=renewed)
            new = self._rendered.of(app, move.wanted, namespace, renewed)
            observed = await self._observe(client, app)  # as it is now that nobody else changes it
            rollout = Rollout(client, app, Writer(client, holding, observed), self._waits, progress)
            await self._move(rollout, move, new, old, holding)

    async def _move(
        self, rollout: Rollout, move: Move, new: list[Object], old: list[Object], holding: Holding
    ) -> None:
        taken = False

        async def take_over() -> None:
            nonlocal taken
            holding.check()
            await move.taken_over()
            taken = True

        try:
            try:
                await rollout.bring_up(move.wanted, new)
                await to_the_end(take_over())
            except BaseException:
                if not taken and not holding.lost:
                    await to_the_end(rollout.take_back(move.before, old))
                raise
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        try:
            await rollout.prune(new)
        except SlipwayError as error:
            log.warning(
                "what the release before left could not be removed: %s", error
            )  # the next mending does it

    async def _prepare(self, client: PatientClient, app: AppRef, namespace: str) -> None:
        await take_namespace(client, app.project, namespace)
        if self._pulls is not None:
            await self._pulls.ensure(client, app.project, namespace)

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        """Asks nobody: what is in the cluster is watched, and only apps of which something changed are compared."""
        await self._mirror.ready()
        await self._renew_pulls()
        return await self._soundness.sound(apps)

    async def _renew_pulls(self) -> None:
        if self._pulls is not None and time.monotonic() >= self._next_renewal:
            self._next_renewal = time.monotonic() + _RENEWAL_SECONDS
            await self._pulls.renew_all(self._hasty(), self._mirror.namespaces())

    async def aclose(self) -> None:
        """Stop watching."""
        await self._mirror.aclose()

    async def mend(
        self, app: AppRef, wanted: Wanted | None, *, repair: bool, confirm: Confirm = nothing
    ) -> bool:
        if wanted is None and self._mirror.is_whole and self._is_nowhere(self._mirror.observed(app)):
            return True
        client = self._hasty()
        observed = await self._observe(client, app)
        if wanted is None:
            return await self._clear(client, app, observed, repair, confirm)
        if self._records.is_anothers(observed.record) or self._rendered.is_so(app, wanted, observed):
            return True
        if not repair:
            return False
        model = wanted.release.model
        namespace = await place_of(client, app, model, observed, self._setting)
        await self._prepare(client, app, namespace)
        number = wanted.release.number
        async with self._records.held(client, app, namespace, observed.move, number) as holding:
            await confirm()
            observed = await self._observe(client, app)
            new = self._rendered.of(app, wanted, namespace, holding.record.renewed)
            log.info("%s: %s", app, difference(new, observed.objects).describe())
            rollout = Rollout(client, app, Writer(client, holding, observed), self._waits, silent)
            try:
                await rollout.bring_up(wanted, new, gates_only=True)
            except BaseExceptionGroup as errors:
                raise first_error(errors) from None
            await rollout.prune(new)
        return False

    def _is_nowhere(self, observed: Observed) -> bool:
        """Nothing but volumes is left of it."""
        return observed.record is None and difference([], observed.objects).none

    async def _clear(
        self, client: PatientClient, app: AppRef, observed: Observed, repair: bool, confirm: Confirm
    ) -> bool:
        """What an interrupted first release left. Volumes stay, as always."""
        if self._is_nowhere(observed) or self._records.is_anothers(observed.record):
            return True
        if repair:
            await confirm()
            await take_away(client, self._records, app, observed, False, silent)
        return False

    async def remove(self, app: AppRef, volumes: bool, progress: Progress) -> None:
        client = self._patient(progress)
        await take_away(client, self._records, app, await self._observe(client, app), volumes, progress)

    async def instances(self, app: AppRef) -> list[Instance]:
        return await self._pods.instances(app)

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        return await self._pods.overview(apps)

    def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        return self._pods.logs(app, instance, follow, tail)

    def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AbstractAsyncContextManager[Command]:
        return self._pods.run(app, instance, command, takes_input=takes_input, terminal=terminal)

    def urls(self, app: AppRef, service: Service) -> list[str]:
        return urls(app, service, self._setting)

    async def places(self, app: AppRef, wanted: Wanted) -> Sequence[Place]:
        return ()

    async def render(self, app: AppRef, wanted: Wanted) -> list[dict[str, Any]]:
        observed = await self._observe(self._hasty(), app)
        place = await place_of(self._hasty(), app, wanted.release.model, observed, self._setting)
        renewed = observed.record.renewed if observed.record is not None else {}
        found = manifests(app, wanted, self._setting, namespace=place, renewed=renewed)
        return [namespace_manifest(app.project, place), *found]
