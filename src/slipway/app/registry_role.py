"""The registry's data path alone: any number of these processes, on any hosts, over one database and one bucket.

Nothing is kept here between two requests but running hashes, so a client may ask each time another of them. No root, no
container runtime, no data directory. Accounts and projects are made by a whole server over the same database.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from slipway.access import Access, Vault
from slipway.api.registry import Pace, create_app
from slipway.app import sockets
from slipway.app.http import HttpProtocol
from slipway.app.leading import lead
from slipway.app.settings import Settings
from slipway.app.stores import open_content, open_database
from slipway.base.rate import RateLimit
from slipway.build.attest.attestor import Attestations
from slipway.build.attest.project_keys import ProjectKeys
from slipway.content import ContentStore
from slipway.errors import Invalid, SlipwayError
from slipway.registry import Registry
from slipway.registry.findings import SharedAdvisories
from slipway.registry.gate import PullGate
from slipway.registry.receiving import UPLOAD_AGE
from slipway.registry.replication import Replicator, Sites
from slipway.registry.through import PullThrough
from slipway.registry.webhooks import Webhooks
from slipway.state import Database

log = logging.getLogger(__name__)
_NEEDED = ("database.url", "storage.url", "keys")
_EVERY_SECONDS = 3600
_THREADS = 64
_SWEEP = 7_064_155_712  # the lock of the one who collects


class RegistryRole:
    """The parts, from ``open`` to ``close``."""

    def __init__(self, settings: Settings, database: Database, blobs: ContentStore) -> None:
        keys = settings.keys
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._registry = Registry(database, blobs)
        self._access = Access(database, keys)
        self._access.on_policy.append(self._registry.rules.forget)
        vault = Vault(keys)
        self._through = PullThrough(database, self._registry, vault)
        signing = ProjectKeys(database, vault, keys / "signing")
        documents = Attestations(signing, self._registry.documents)
        self._advisories = SharedAdvisories(database, blobs, settings.run / "advisories.sqlite")
        self._gate = PullGate(database, self._registry.rules, documents, self._advisories.index)

    @classmethod
    def of(cls, settings: Settings) -> RegistryRole:
        """Raises ``Invalid`` when something would stay on this machine, where no other server sees it."""
        for name in _NEEDED:
            if not settings[name]:
                raise Invalid(
                    f"the role registry needs the setting {name}",
                    hint="several servers share one database, one bucket and one signing key",
                )
        return cls(settings, open_database(settings), open_content(settings))

    def app(self) -> Starlette:
        pace = Pace(self._settings["registry.idle_seconds"])
        rate = RateLimit(self._settings["registry.requests_per_second"])
        registry = create_app(self._registry, self._access, self._through, pace, rate, self._gate)
        return Starlette(routes=[Route("/healthz", self._health), Mount("/", registry)])

    async def _health(self, _request: Request) -> JSONResponse:
        """For a load balancer: whether requests that need the database make sense."""
        try:
            async with asyncio.timeout(5), self._database.read() as session:
                await session.execute(text("SELECT 1"))
        except (SlipwayError, TimeoutError) as error:
            return JSONResponse({"ready": False, "reason": str(error) or "timeout"}, 503)
        return JSONResponse({"ready": True})

    async def open(self) -> None:
        await self._database.migrate()
        await asyncio.to_thread(self._blobs.recover)

    async def housekeep_forever(self) -> None:
        """Once an hour each tries, and one does it. That it fails is said, and it is tried again."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS * random.uniform(0.8, 1.2))
            try:
                async with self._database.alone(_SWEEP) as mine:
                    if mine:
                        await self.housekeep()
            except SlipwayError:
                log.exception("what nobody needs could not be removed")

    async def housekeep(self) -> None:
        """Remove forgotten uploads and blobs that nothing refers to."""
        await self._registry.uploads.expire()
        roots = functools.partial(self._registry.roots.from_thread, asyncio.get_running_loop())
        found = await asyncio.to_thread(self._blobs.collect, roots, UPLOAD_AGE)
        log.info("removed %d blobs, %d bytes", found.removed, found.bytes)

    async def lead_forever(self) -> None:
        """Replicate with other sites and tell webhooks, unless another server of this site does."""
        vault = Vault(self._settings.keys)
        sites = Sites(self._database, vault)
        replicator = Replicator(self._database, self._registry, sites, self._access)
        webhooks = Webhooks(self._database, vault, local=self._settings["webhooks.local"])
        await lead(self._database, replicator.run_forever, webhooks.run_forever)

    async def pulls_forever(self) -> None:
        await self._registry.pulls.run_forever()

    async def advisories_forever(self) -> None:
        await self._advisories.run_forever()

    async def close(self) -> None:
        await self._database.dispose()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(
        level=settings["log.level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    role = RegistryRole.of(settings)
    # Threads that wait for the bucket, not for a processor.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "store"))
    with sockets.only_one(settings):
        listener = sockets.listen(settings["listen"])
        server = sockets.Server(sockets.configured(settings, role.app(), HttpProtocol))
        await role.open()
        work = asyncio.gather(
            role.housekeep_forever(), role.pulls_forever(), role.lead_forever(), role.advisories_forever()
        )
        sockets.stop_on_signals(server)
        log.info("the registry serves on %s", settings["listen"])
        try:
            await server.serve([listener])
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await role.close()
