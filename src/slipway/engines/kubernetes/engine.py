"""``Engine`` over a cluster."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

from slipway.base.clock import iso, now
from slipway.base.progress import Progress, silent
from slipway.compose import Project, Refusal, Service
from slipway.delivery.commands import Command
from slipway.delivery.engine import AppRef, Confirm, Instance, LogRecord, Move, Place, Wanted, nothing
from slipway.delivery.rollout import first_error, to_the_end
from slipway.engines.kubernetes import limits, names, pods
from slipway.engines.kubernetes.health import settled
from slipway.engines.kubernetes.kinds import WORKLOADS
from slipway.engines.kubernetes.mirror import Mirror
from slipway.engines.kubernetes.objects import Object, difference
from slipway.engines.kubernetes.observed import OURS, Observed, is_ours, observe
from slipway.engines.kubernetes.patient import AWAY_SECONDS, PatientClient
from slipway.engines.kubernetes.placement import place_of
from slipway.engines.kubernetes.pulls import SECRET, PullLogins, PullSecrets
from slipway.engines.kubernetes.record import Holding, Records
from slipway.engines.kubernetes.removal import take_away
from slipway.engines.kubernetes.render import manifests, namespace_manifest
from slipway.engines.kubernetes.render_network import urls
from slipway.engines.kubernetes.rollout import Rollout
from slipway.engines.kubernetes.setting import Setting
from slipway.engines.kubernetes.waiting import Limits
from slipway.engines.kubernetes.writing import Writer
from slipway.errors import Conflict, NotFound, SlipwayError, Unsupported
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
        # What is rendered for the release that an app is at; the same as long as the rest of the key is.
        self._rendered: dict[AppRef, tuple[tuple[Any, ...], list[Object]]] = {}
        self._mirror = Mirror(client, setting.prefix)
        # What was wanted of an app when it was last found so; nothing of it has changed since.
        self._good: dict[AppRef, tuple[Any, ...]] = {}
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
        if (
            not observed.namespace
            or not difference(self._manifests(app, wanted, observed), observed.objects).none
        ):
            return False
        return all(settled(item) for key, item in observed.objects.items() if key.kind in WORKLOADS)

    def _manifests(self, app: AppRef, wanted: Wanted, observed: Observed) -> list[Object]:
        """What is wanted, where the app is, with what its last restarts wrote."""
        renewed = observed.record.renewed if observed.record is not None else {}
        return self._render(app, wanted, observed.namespace, renewed)

    def _render(
        self, app: AppRef, wanted: Wanted, namespace: str, renewed: Mapping[str, str]
    ) -> list[Object]:
        release = wanted.release
        key = (release.number, release.digest, dict(wanted.scale), namespace, dict(renewed))
        known = self._rendered.get(app)
        if known is None or known[0] != key:
            known = (key, manifests(app, wanted, self._setting, namespace=namespace, renewed=renewed))
            self._rendered[app] = known
        return known[1]

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
            old = self._render(app, move.before, namespace, renewed) if move.before is not None else []
            if move.renew:
                renewed |= dict.fromkeys(move.renew, iso(now()))
                await self._records.write(client, app, holding, renewed=renewed)
            new = self._render(app, move.wanted, namespace, renewed)
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
        found = await client.get("Namespace", namespace)
        owner = found["metadata"].get("labels", {}).get(names.PROJECT) if found is not None else None
        if owner not in (None, app.project):
            raise Conflict(
                f"the namespace {namespace} is that of the project {owner!r}",
                hint="add the cluster with another --namespace-prefix",
            )
        if owner is None:
            await client.apply(namespace_manifest(app.project, namespace))
        if self._pulls is not None:
            await self._pulls.ensure(client, app.project, namespace)

    async def sound(self, apps: Mapping[AppRef, Wanted]) -> Collection[AppRef]:
        """Asks nobody: what is in the cluster is watched, and only apps of which something changed are compared."""
        await self._mirror.ready()
        for ref in self._rendered.keys() - apps.keys():
            del self._rendered[ref]
        for ref in self._good.keys() - apps.keys():
            del self._good[ref]
        await self._renew_pulls()
        changed, self._mirror.changed = self._mirror.changed, set()
        for ref in changed:
            self._good.pop(ref, None)
        held: set[AppRef] = set()
        for ref, wanted in apps.items():
            what = (wanted.release.number, wanted.release.digest, dict(wanted.scale))
            if self._good.get(ref) != what:
                self._good.pop(ref, None)
                observed = self._mirror.observed(ref)
                if self._is_held(observed):
                    held.add(ref)  # is changed, and looked after, by another controller
                elif self._is_sound(ref, wanted, observed):
                    self._good[ref] = what
                await asyncio.sleep(0)  # others have their turn
        return (self._good.keys() & apps.keys()) | held

    async def _renew_pulls(self) -> None:
        if self._pulls is not None and time.monotonic() >= self._next_renewal:
            self._next_renewal = time.monotonic() + _RENEWAL_SECONDS
            await self._pulls.renew_all(self._hasty())

    async def aclose(self) -> None:
        """Stop watching."""
        await self._mirror.aclose()

    def _is_held(self, observed: Observed) -> bool:
        return observed.record is not None and observed.record.held_by_another(self._records.me)

    def _is_sound(self, app: AppRef, wanted: Wanted, observed: Observed) -> bool:
        if not observed.namespace:
            return False
        return difference(self._manifests(app, wanted, observed), observed.objects).none

    async def mend(
        self, app: AppRef, wanted: Wanted | None, *, repair: bool, confirm: Confirm = nothing
    ) -> bool:
        if wanted is None and self._mirror.is_whole and self._is_nowhere(self._mirror.observed(app)):
            return True
        client = self._hasty()
        observed = await self._observe(client, app)
        if wanted is None:
            return await self._clear(client, app, observed, repair, confirm)
        if self._is_held(observed) or self._is_sound(app, wanted, observed):
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
            new = self._render(app, wanted, namespace, holding.record.renewed)
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
        if self._is_nowhere(observed) or self._is_held(observed):
            return True
        if repair:
            await confirm()
            await take_away(client, self._records, app, observed, False, silent)
        return False

    async def remove(self, app: AppRef, volumes: bool, progress: Progress) -> None:
        client = self._patient(progress)
        await take_away(client, self._records, app, await self._observe(client, app), volumes, progress)

    async def instances(self, app: AppRef) -> list[Instance]:
        found = await self._instances(names.app_labels(app))
        return found.get(app, [])

    async def overview(self, apps: Collection[AppRef]) -> Mapping[AppRef, list[Instance]]:
        found = await self._instances(OURS)
        return {app: found.get(app, []) for app in apps}

    async def _instances(self, labels: dict[str, str] | str) -> dict[AppRef, list[Instance]]:
        client = self._hasty()
        there, *workloads = await asyncio.gather(
            *(client.list(kind, None, labels) for kind in ("Pod", *WORKLOADS))
        )
        mine = [item for item in there if self._is_ours(item)]
        return pods.instances(mine, [item for items in workloads for item in items if self._is_ours(item)])

    def _is_ours(self, obj: Object) -> bool:
        return is_ours(obj, self._setting.prefix)

    async def logs(
        self, app: AppRef, instance: Instance, follow: bool, tail: int | None
    ) -> AsyncIterator[LogRecord]:
        found = await self._hasty().list("Pod", None, names.service_labels(app, instance.service))
        mine = [item for item in found if item["metadata"]["name"] == instance.id and self._is_ours(item)]
        if mine:
            source = pods.read_logs(self._client, mine[0]["metadata"]["namespace"], instance, follow, tail)
            async with aclosing(source) as lines:  # type: ignore[type-var]
                async for line in lines:
                    yield line

    @asynccontextmanager
    async def run(
        self, app: AppRef, instance: Instance, command: Sequence[str], *, takes_input: bool, terminal: bool
    ) -> AsyncIterator[Command]:
        found = await self._hasty().list("Pod", None, names.service_labels(app, instance.service))
        mine = [item["metadata"]["namespace"] for item in found if item["metadata"]["name"] == instance.id]
        if not mine:
            raise NotFound(f"the instance {instance.id} is gone")
        async with self._client.run(
            mine[0], instance.id, command, instance.service, takes_input=takes_input, terminal=terminal
        ) as running:
            yield running

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
