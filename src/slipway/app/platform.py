"""Which part gets which: the whole house in one file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from slipway.access import Access, Identity, Vault
from slipway.api.platform import Services
from slipway.app.base_images import BaseImages
from slipway.app.engines import cluster_setting, open_engines, renderer
from slipway.app.housekeeping import Bounds, Housekeeping
from slipway.app.identity import server_id, site_id
from slipway.app.images import LIBRARY, OwnersImages, RegistryBuilder
from slipway.app.leading import lead
from slipway.app.leavings import LeavingsHere, LeavingsOnClusters
from slipway.app.machine import Machine
from slipway.app.no_machine import NoMachine
from slipway.app.oidc import oidc_of
from slipway.app.own_images import OwnImages
from slipway.app.pods import BuildClusters
from slipway.app.settings import Settings
from slipway.app.status import Status
from slipway.app.stores import open_content, open_database, signing_keys
from slipway.app.tls import authority_certificate
from slipway.build.attest import Inventories
from slipway.build.attest.attestor import Attestor
from slipway.build.attest.project_keys import ProjectKeys
from slipway.build.builders.records import Builders
from slipway.build.cache import BuildCache
from slipway.build.cache_mounts import CacheMounts
from slipway.build.explain import Traces
from slipway.build.forwarding import Forwarding
from slipway.build.jobs import BuildJobs
from slipway.build.logs import TableLogs
from slipway.build.pods.builder import Launcher, PodBuilder
from slipway.build.pods.desk import Desk
from slipway.build.pods.idle import IdleBounds
from slipway.build.pods.launcher import KubernetesLauncher
from slipway.build.queue import FairQueue
from slipway.build.remote import Remotes
from slipway.build.sandbox import Limits, Sandboxes
from slipway.build.solve import Solver
from slipway.build.surroundings import Surroundings
from slipway.delivery import AppPolicy, Apps, Deliverer, Engine, Stepwise, Views
from slipway.distribution import Login
from slipway.distribution.addresses import ANYWHERE, Reach
from slipway.engines.embedded import EmbeddedEngine
from slipway.errors import Conflict
from slipway.fleet import Clusters, ClusterWatch
from slipway.network import BuildNetwork
from slipway.registry import Registry, Retention, Transfers, Trash
from slipway.registry.findings import SharedAdvisories
from slipway.registry.gate import PullGate
from slipway.registry.replication import Replicator, Sites
from slipway.registry.through import PullThrough
from slipway.registry.webhooks import Webhooks
from slipway.snapshots import SnapshotStore

log = logging.getLogger(__name__)
DEFAULT_PROJECT = "demo"


class Platform:
    """Everything a server runs, from ``open`` to ``close``."""

    def __init__(self, settings: Settings, machine: Machine | None, launcher: Launcher | None = None) -> None:
        """``launcher`` starts the workers of builds in Pods; by default on the clusters.

        Without a ``machine`` builds and apps are on clusters alone, and this is one of several servers: what has to
        survive is in the database and the bucket, and the data directory is a scratch.
        """
        self.settings = settings
        self.machine = machine
        data = settings.data
        self.database = open_database(settings)
        self.blobs = blobs = machine.blobs if machine else open_content(settings)
        self.snapshots = snapshots = (
            machine.snapshots if machine else SnapshotStore(data / "snapshots", blobs)
        )
        self.access = Access(self.database, settings.keys)
        self.oidc = oidc_of(settings, self.access, self.database)
        self.registry = Registry(self.database, blobs)
        self.access.on_policy.append(self.registry.rules.forget)
        self.results = cache = BuildCache(self.database, blobs)
        self.cache_mounts = CacheMounts(data / "cache-mounts")
        self.remotes = Remotes(data / "remotes", ANYWHERE if machine else _reach(settings))
        self.traces = Traces(data / "traces")
        self.inventories = Inventories(data / "inventories", blobs)
        solver = Solver(
            blobs, snapshots, cache, self.cache_mounts, self.remotes, self.traces,
            data / "sockets", self.inventories, _surroundings(settings),
        )  # fmt: skip
        self._vault = vault = Vault(settings.keys)
        self._signing = ProjectKeys(self.database, vault, signing_keys(settings))
        self.attestor = Attestor(self.inventories, self._signing, self.registry.documents)
        advisories = (settings.keys if machine else data) / "advisories.sqlite"
        self.advisories = SharedAdvisories(self.database, blobs, advisories)
        self.gate = PullGate(self.database, self.registry.rules, self.attestor, self.advisories.index)
        self.desk = Desk()
        sandboxes = Sandboxes(settings.run / "builds", BuildNetwork(machine.networks)) if machine else None
        self.clusters = Clusters(self.database, vault, settings["kubernetes.cluster"])
        mark = server_id(data) if machine else site_id(settings.keys)
        self.access.on_deletion += [
            LeavingsHere(data / "volumes", self.cache_mounts).remove,
            LeavingsOnClusters(self.clusters, mark).remove,
            self.desk.beforehand.forget,
        ]
        bootstraps = machine is not None
        self._bases = BaseImages(self.registry, blobs, bootstraps=bootstraps)
        self._own = OwnImages(self.registry, blobs, bootstraps=bootstraps)
        self.pods = self._pods(mark)
        self.jobs = BuildJobs(
            self.database, solver, sandboxes, self.registry, data / "builds", _limits(settings),
            FairQueue(settings["build.parallel"]), self.attestor,
            PodBuilder(solver, self.desk, launcher or self.pods), FairQueue(settings["kubernetes.builds"]),
            None if machine else TableLogs(self.database), settings["build.log_size"],
        )  # fmt: skip
        builder = RegistryBuilder(self.jobs, self.registry, self.access, self.gate)
        self.trash, self.retention = Trash(self.database), Retention(self.database)
        sites = Sites(self.database, vault)
        setting = cluster_setting(settings)
        away = settings["kubernetes.away_seconds"]
        self.watch = ClusterWatch(self.clusters, away)
        engine: Engine = Stepwise(self._embedded(machine), renderer(setting)) if machine else NoMachine()
        self.engines = open_engines(
            engine, self.access, setting, self.clusters, self.database, self.watch.health, away
        )
        self.apps = Apps(self.database)
        self.deliverer = Deliverer(self.apps, builder, self.engines.of, self._app_policy)
        self.views = Views(self.apps, builder, self.engines.of)
        self.through = PullThrough(self.database, self.registry, vault)
        self.webhooks = Webhooks(self.database, vault, local=settings["webhooks.local"])
        self.replicator = Replicator(self.database, self.registry, sites, self.access)
        self._uploads = data / "uploads"
        self._uploads.mkdir(exist_ok=True, mode=0o700)
        bounds = Bounds(timedelta(days=settings["build.cache_days"]), settings["build.cache_size"])
        self.housekeeping = Housekeeping(
            blobs, snapshots, self.registry, cache, self.cache_mounts, self.remotes,
            (self.traces, self.inventories), self._uploads, bounds, self.trash, self.retention,
            self.jobs.records, timedelta(days=settings["build.keep_days"]),
        )  # fmt: skip
        self._status = Status(settings, machine, self.apps, self.jobs)
        self._tasks: list[asyncio.Task[None]] = []

    def _embedded(self, machine: Machine) -> EmbeddedEngine:
        settings = self.settings
        return EmbeddedEngine(
            machine.containers, machine.networks, machine.balancer, self.snapshots, self.registry,
            settings.data / "volumes", settings["apps.domain"], int(settings["apps.listen"].rpartition(":")[2]),
        )  # fmt: skip

    def _pods(self, mark: str) -> KubernetesLauncher:
        settings = self.settings
        bounds = IdleBounds(
            settings["kubernetes.idle_workers"],
            settings["kubernetes.idle_seconds"],
            settings["kubernetes.idle_total"],
        )
        return KubernetesLauncher(BuildClusters(settings, self.clusters, self._own, mark), mark, bounds)

    async def open(self) -> None:
        """Put in order what a crash may have left, find what runs, begin to watch it."""
        await self.prepare()
        await self.take_charge()

    async def prepare(self) -> None:
        """What any server does before it answers, beside others."""
        await self.database.migrate()
        for part in (self.blobs, self.snapshots, self.cache_mounts):
            await asyncio.to_thread(part.recover)
        work = (self.registry.pulls.run_forever(), self.advisories.run_forever())
        self._tasks = [asyncio.create_task(_supervised(item)) for item in work]

    async def take_charge(self) -> None:
        """From now on builds, apps and housekeeping are this server's; nobody else does them."""
        await self._signing.take_over()
        await self.jobs.recover()
        await self.apps.interrupt_pending()
        if self.machine:
            await self.machine.containers.recover()
        for name, public in ((LIBRARY, True), (DEFAULT_PROJECT, False)):
            try:
                await self.access.create_project(name, public=public)
            except Conflict:
                continue
        await self._first_admin()
        await self.watch.look()  # or the first request for an app would find every cluster silent
        work = (
            *((self.machine.containers.run_forever(),) if self.machine else ()),
            self.watch.run_forever(),
            self.deliverer.run_forever(),
            self.housekeeping.run_forever(),
            self.pods.recover(),
            lead(self.database, self.replicator.run_forever, self.webhooks.run_forever),
        )
        self._tasks += [asyncio.create_task(_supervised(item)) for item in work]

    async def _first_admin(self) -> None:
        password = self.settings["admin.password"]
        if password and not await self.access.users():
            await self.access.create_user("admin", password, is_admin=True)
            log.info("made the user admin")

    async def end_charge(self) -> None:
        """Builds end, and so does what ran by itself. Idempotent."""
        await self.jobs.close()
        await self.pods.close()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Stop what is ours; containers go on."""
        await self.end_charge()
        if self.machine:
            await self.machine.containers.close()
        await self.engines.aclose()
        await self.clusters.aclose()
        await asyncio.to_thread(self.snapshots.settle)
        await self.database.dispose()

    def services(self) -> Services:
        transfers = Transfers(self.registry, self.snapshots if self.machine else None)
        return Services(
            self.access, self._vault, self.registry, self.trash, self.retention, self.replicator, self.webhooks,
            self.gate, self.advisories, self.attestor, transfers, self.jobs,
            Builders(self.database), self.apps, self.deliverer, self.views, self._images_of, self._bases.make,
            self._status, self._uploads, self.remotes, self.clusters, self._prune, self.desk, self._own.make,
            Forwarding(), authority_certificate(self.settings), self.oidc,
        )  # fmt: skip

    async def _app_policy(self, project: str) -> AppPolicy:
        return AppPolicy.parse(await self.access.policy(project, "app"))

    def _images_of(
        self, owner: Identity, refresh: bool, logins: Mapping[str, Login], project: str
    ) -> OwnersImages:
        return OwnersImages(self.registry, self.access, self.gate, owner, refresh, logins, project)

    async def _prune(self, days: float, size: int, dry_run: bool) -> dict[str, Any]:
        done = await self.housekeeping.prune(Bounds(timedelta(days=days), size), dry_run=dry_run)
        return {"counts": done.counts, "bytes": done.bytes, "dry_run": dry_run}


async def _supervised(work: Any) -> None:
    """A background task that fails takes the server down, loudly, rather than leaving it half alive."""
    try:
        await work
    except Exception:
        log.exception("a background task failed; the server ends and can be started again")
        os._exit(70)


def _surroundings(settings: Settings) -> Surroundings:
    return Surroundings.of(
        settings["build.ca_bundle"], settings["build.http_proxy"], settings["build.https_proxy"],
        settings["build.no_proxy"],
    )  # fmt: skip


def _reach(settings: Settings) -> Reach:
    """What is fetched for builds that are Pods is what these could fetch."""
    return Reach(settings["kubernetes.egress"], settings["kubernetes.egress_except"])


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings["build.cpus"], settings["build.memory"], settings["build.pids"], settings["build.seconds"],
        settings["build.disk"],
    )  # fmt: skip
