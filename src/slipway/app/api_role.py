"""The platform API without a machine: any number of these processes, in Pods, over one database and one bucket.

No root, no container runtime; the data directory is a scratch. Builds are Pods and apps are on clusters. One of the
processes leads: builds, deliveries, reconciliation and housekeeping are its own, and the others hand such requests on
to it (``slipway.api.platform.forwarding``). One that is killed is followed by another within half a minute; what it was
doing is recorded as interrupted, and can be done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import text
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway.api.platform import create_app
from slipway.api.platform.forwarding import Forwarding
from slipway.api.registry import Pace
from slipway.api.registry import create_app as create_registry
from slipway.app import sockets
from slipway.app.http import HttpProtocol
from slipway.app.leadership import Leadership, end_at_once
from slipway.app.platform import Platform
from slipway.app.settings import Settings
from slipway.base.ids import new_id
from slipway.base.rate import RateLimit
from slipway.errors import Conflict, Invalid, SlipwayError
from slipway.state import Database

log = logging.getLogger(__name__)
_NEEDED = ("database.url", "storage.url", "keys", "kubernetes.server")
_THREADS = 64
_LOOK_SECONDS = 0.5


async def health(database: Database) -> JSONResponse:
    """For a load balancer: whether requests that need the database make sense."""
    try:
        async with asyncio.timeout(5), database.read() as session:
            await session.execute(text("SELECT 1"))
    except (SlipwayError, TimeoutError) as error:
        return JSONResponse({"ready": False, "reason": str(error) or "timeout"}, 503)
    return JSONResponse({"ready": True})


class ApiRole:
    """The parts. ``leadership`` says whether this process leads."""

    def __init__(self, settings: Settings) -> None:
        """Raises ``Invalid`` when something would stay in this process's files, where no other sees it."""
        for name in _NEEDED:
            if not settings[name]:
                raise Invalid(
                    f"the role api needs the setting {name}",
                    hint="several servers share one database, one bucket and one set of keys, and find each other by "
                    "kubernetes.server, the URL of this very one",
                )
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings = settings
        self.platform = Platform(settings, None)
        self.leadership = Leadership(self.platform.database, new_id(), settings["kubernetes.server"])
        self.forwarding = Forwarding(self._all(), self.leadership)

    def _all(self) -> ASGIApp:
        """The platform's and the registry's application, and what a load balancer asks."""
        platform, settings = self.platform, self._settings
        pace, rate = (
            Pace(settings["registry.idle_seconds"]),
            RateLimit(settings["registry.requests_per_second"]),
        )
        registry = create_registry(
            platform.registry, platform.access, platform.through, pace, rate, platform.gate
        )
        api = create_app(platform.services())
        api.mount("/", registry)

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/healthz":
                await (await health(platform.database))(scope, receive, send)
            elif scope["path"].startswith("/v2/"):
                await registry(scope, receive, send)
            else:
                await api(scope, receive, send)

        return choose

    async def open(self) -> None:
        await self.platform.prepare()
        await self._know_own_cluster()

    async def _know_own_cluster(self) -> None:
        """The cluster that we run in, under the name that the settings give it."""
        name = self._settings["kubernetes.cluster"]
        if name and name not in {item.name for item in await self.platform.clusters.all()}:
            with contextlib.suppress(Conflict):  # another of us was quicker
                await self.platform.clusters.add(name, "")
                log.info("added the cluster %s, in which this server runs", name)

    async def lead_when_it_may(self, ending: asyncio.Event) -> None:
        """Follow, and once nobody else leads, lead until ``ending`` is set and nothing is under way."""
        if not await self.leadership.won(ending):
            return
        async with self.leadership.kept() as lost:
            lost.add_done_callback(end_at_once)
            await self.platform.take_charge()
            self.leadership.leads = True
            log.info("this server leads now")
            await self._quiet(ending)
            self.leadership.leads = False  # what comes now waits for the next one
            await self.platform.end_charge()

    async def _quiet(self, ending: asyncio.Event) -> None:
        """Until this process is to end and nobody waits for anything here, or has waited for long enough."""
        await ending.wait()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings["grace_seconds"]
        while self.forwarding.busy and loop.time() < end:
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        await self.forwarding.aclose()
        await self.platform.close()


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. What is under way then has ``grace_seconds`` to end, and a leader goes on to take
    new work until there is a moment without any."""
    logging.basicConfig(
        level=settings["log.level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Threads that wait for the bucket, not for a processor.
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "store"))
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    with sockets.only_one(settings):
        role = ApiRole(settings)
        listener = sockets.listen(settings["listen"])
        idle = settings["registry.idle_seconds"]
        protocol = type("_Protocol", (HttpProtocol,), {"idle": idle})
        server = sockets.Server(sockets.configured(settings, role.forwarding, protocol))
        await role.open()
        log.info("the platform API serves on %s", settings["listen"])
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve([listener]))
                group.create_task(_lead_then_end(role, ending, server))
        finally:
            await role.close()


async def _lead_then_end(role: ApiRole, ending: asyncio.Event, server: sockets.Server) -> None:
    await role.lead_when_it_may(ending)
    server.should_exit = True
