"""The clusters that are known here, which projects use them, and one open client for each."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import delete, select, update

from slipway.access import Vault
from slipway.base.clock import now
from slipway.errors import Conflict, Invalid, NotFound, SlipwayError, Unsupported
from slipway.fleet.bindings import Bindings
from slipway.fleet.nodes import NodeFacts
from slipway.fleet.records import Binding, ClusterDetail, ClusterRecord
from slipway.fleet.rights import missing
from slipway.kubernetes import ClusterClient, Endpoint, own_endpoint, read_kubeconfig
from slipway.state import Database, add_once
from slipway.state.tables import Cluster, Project

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_PREFIX = re.compile(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?-", re.ASCII)
PREFIX = "slipway-"
_OURS = "in-cluster"  # in the place of a kubeconfig: the account of the server's own Pod
_QUICK = 5.0  # seconds for one cluster when all are shown


@dataclass(frozen=True, slots=True)
class _Open:
    sealed: str
    client: ClusterClient


class Clusters:
    """Records are in the database, clients in this process: they stay open and are shared, and end with ``aclose``.

    A cluster that another server removed is noticed at the next ``client`` or ``names``, one that it added anew with
    other credentials at the next ``client``.
    ``fallback`` is the cluster of projects that have none of their own; empty: they have this machine.
    """

    def __init__(self, database: Database, vault: Vault, fallback: str = "") -> None:
        self._database = database
        self._vault = vault
        self._bindings = Bindings(database)
        self._fallback = fallback
        self._open: dict[str, _Open] = {}
        self.on_added: list[Callable[[ClusterDetail], None]] = []
        """Told of each cluster that this process has added, as it was then."""
        self.on_closing: list[Callable[[str], Awaitable[None]]] = []
        """Told of each cluster whose client is about to be closed: it is gone, or is another one now."""

    async def aclose(self) -> None:
        opened, self._open = self._open, {}
        for item in opened.values():
            await item.client.aclose()

    # Records

    async def add(
        self, name: str, kubeconfig: str, context: str | None = None, prefix: str = PREFIX
    ) -> ClusterDetail:
        """Keeps what ``kubeconfig`` says of one context, after the cluster was asked for its nodes with it.

        An empty one stands for the cluster that this server runs in, with the account of its own Pod. ``prefix``: of
        the namespaces of apps there; another one than that of another platform, or of the same cluster under another
        name.

        Raises ``Invalid``, ``Unsupported`` (see ``read_kubeconfig``), ``Conflict`` when there is one of this name or
        with these namespaces, and what the cluster answers: ``Unavailable``, ``Unauthenticated``, ``Denied``.
        """
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"not a cluster's name: {name[:100]!r}",
                hint="1 to 40 lower-case letters, digits and inner '-'",
            )
        if not _PREFIX.fullmatch(prefix):
            raise Invalid(
                f"not a prefix of namespaces: {prefix[:100]!r}",
                hint="2 to 21 lower-case letters, digits and '-', a letter first and '-' last, e.g. slipway-east-",
            )
        taken = Conflict(f"the cluster {name!r} exists already", hint=f"slipway cluster rm {name}")
        async with self._database.read() as session:
            if await session.get(Cluster, name) is not None:
                raise taken
        endpoint = read_kubeconfig(kubeconfig, context) if kubeconfig else own_endpoint()
        async with ClusterClient(endpoint) as client:
            version = await client.version()
            nodes = await _nodes(client)
            lacking = await missing(client)
            identity = await _identity(client)
        await self._check_single(identity, prefix)
        async with self._database.session() as session:
            made = await add_once(
                session, Cluster, name=name, server=endpoint.server,
                kubeconfig=self._vault.seal(endpoint.kubeconfig() if kubeconfig else _OURS), version=version,
                created=now(), prefix=prefix, identity=identity, seen=now(),
            )  # fmt: skip
        if not made:
            raise taken
        added = ClusterDetail(await self.get(name), nodes, warnings=_warnings(endpoint.verify, lacking))
        for tell in self.on_added:
            tell(added)
        return added

    async def _check_single(self, identity: str, prefix: str) -> None:
        """An app that is on a cluster twice needs two namespaces. Raises ``Conflict``."""
        if not identity:
            return
        query = select(Cluster.name).where(Cluster.identity == identity, Cluster.prefix == prefix)
        async with self._database.read() as session:
            other = await session.scalar(query)
        if other is not None:
            raise Conflict(
                f"this is the cluster {other!r} again: the namespaces of apps would be the same ones",
                hint=f"slipway cluster bind {other} …, or --namespace-prefix for other namespaces",
            )

    async def get(self, name: str) -> ClusterRecord:
        """Raises ``NotFound``."""
        async with self._database.read() as session:
            row = await session.get(Cluster, name)
        if row is None:
            raise NotFound(f"there is no cluster {name!r}", hint="slipway cluster ls")
        return _record(row, await self._bindings.list(cluster=name))

    async def all(self) -> list[ClusterRecord]:
        bindings: dict[str, list[Binding]] = defaultdict(list)
        for binding in await self._bindings.list():
            bindings[binding.cluster].append(binding)
        async with self._database.read() as session:
            rows = list(await session.scalars(select(Cluster).order_by(Cluster.name)))
        return [_record(row, bindings[row.name]) for row in rows]

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Forgets it; what runs there goes on. Raises ``NotFound``, and ``Conflict`` while projects use it unless
        ``force``."""
        bound = await self._bindings.users(name)
        if bound and not force:
            raise Conflict(
                f"the cluster {name!r} is used by {', '.join(bound)}",
                hint=f"slipway cluster unbind {name} --project …; with rm --force what runs there stays there, unseen",
            )
        async with self._database.session() as session:
            found = await session.execute(delete(Cluster).where(Cluster.name == name).returning(Cluster.name))
            if not found.all():
                raise NotFound(f"there is no cluster {name!r}", hint="slipway cluster ls")
        await self._shut(name)

    # Projects

    async def bind(self, name: str, project: str, weight: int = 1) -> Binding:
        """Lets a project use a cluster, or changes the weight.

        Raises ``NotFound``, ``Invalid``, and ``Conflict`` for a project with apps on this machine.
        """
        await self.get(name)
        return await self._bindings.put(name, project, weight, moves=not self._fallback)

    async def unbind(self, name: str, project: str) -> None:
        """Raises ``NotFound`` when the project does not use the cluster."""
        await self._bindings.remove(name, project)

    async def of(self, project: str) -> Sequence[Binding]:
        """The clusters of a project, by name; none where it has only this machine."""
        bound = await self._bindings.list(project=project)
        return bound or ([Binding(self._fallback, project, 1)] if self._fallback else [])

    async def bound(self) -> dict[str, dict[str, int]]:
        """The clusters of every project that has some, with their weights."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for binding in await self._bindings.list():
            found[binding.project][binding.cluster] = binding.weight
        if self._fallback:
            async with self._database.read() as session:
                for project in await session.scalars(select(Project.name)):
                    found[project] = found[project] or {self._fallback: 1}
        return found

    async def names(self) -> set[str]:
        opened = dict(self._open)
        async with self._database.read() as session:
            found = set(await session.scalars(select(Cluster.name)))
        for name in opened.keys() - found:
            if self._open.get(name) is opened[name]:  # and not one that was added since
                await self._shut(name)
        return found

    async def was_seen(self, name: str) -> None:
        """It is well now."""
        async with self._database.session() as session:
            await session.execute(update(Cluster).where(Cluster.name == name).values(seen=now()))

    async def seen(self, name: str) -> datetime | None:
        """When it was last well."""
        async with self._database.read() as session:
            found: datetime | None = await session.scalar(select(Cluster.seen).where(Cluster.name == name))
        return found

    # What is there

    async def client(self, name: str) -> ClusterClient:
        """Open and shared: nobody but ``aclose`` closes it. Asks nothing of the cluster. Raises ``NotFound``."""
        async with self._database.read() as session:
            sealed = await session.scalar(select(Cluster.kubeconfig).where(Cluster.name == name))
        if sealed is None:
            await self._shut(name)
            raise NotFound(f"there is no cluster {name!r}", hint="slipway cluster ls")
        known = self._open.get(name)
        if known is None or known.sealed != sealed:
            made = _Open(sealed, ClusterClient(_endpoint(name, self._vault.open(sealed))))
            self._open[name] = made
            if known is not None:
                await self._close(name, known)
            return made.client
        return known.client

    async def show(self, name: str) -> ClusterDetail:
        """As it is now; ``error`` says why not. Raises ``NotFound``."""
        return await self._look(await self.get(name))

    async def list(self) -> Sequence[ClusterDetail]:
        """All, as they are now; one that does not answer quickly is shown as ``away``."""
        return await asyncio.gather(*(self._look(record, _QUICK) for record in await self.all()))

    async def _look(self, record: ClusterRecord, seconds: float | None = None) -> ClusterDetail:
        try:
            async with asyncio.timeout(seconds):
                client = await self.client(record.name)
                version, nodes = await asyncio.gather(client.version(), _nodes(client))
        except TimeoutError:
            return ClusterDetail(record, error=f"no answer within {seconds:g} seconds")
        except SlipwayError as error:
            return ClusterDetail(record, error=error.message)
        if version != record.version:
            async with self._database.session() as session:
                await session.execute(
                    update(Cluster).where(Cluster.name == record.name).values(version=version)
                )
        seen = replace(record, version=version)
        return ClusterDetail(seen, nodes, warnings=_warnings(client.endpoint.verify, ()))

    # How

    async def _shut(self, name: str) -> None:
        known = self._open.pop(name, None)
        if known is not None:
            await self._close(name, known)

    async def _close(self, name: str, known: _Open) -> None:
        for tell in self.on_closing:
            await tell(name)
        await known.client.aclose()


def _endpoint(name: str, kubeconfig: str) -> Endpoint:
    if kubeconfig != _OURS:
        return read_kubeconfig(kubeconfig)
    try:
        return own_endpoint()
    except Invalid as error:
        raise Unsupported(
            f"the cluster {name!r} is the one that the platform's API servers run in, and this server is none of them",
            hint="ask them, or add the cluster under another name with a kubeconfig",
        ) from error


async def _nodes(client: ClusterClient) -> tuple[NodeFacts, ...]:
    listing = await client.list("Node")
    return tuple(sorted((NodeFacts.of(item) for item in listing.items), key=lambda node: node.name))


async def _identity(client: ClusterClient) -> str:
    """What is the same for every way to the cluster; empty if the account may not see it."""
    try:
        found = await client.get("Namespace", "kube-system")
    except SlipwayError:
        return ""
    return str(found["metadata"].get("uid") or "") if found is not None else ""


def _warnings(verified: bool, lacking: Sequence[str]) -> tuple[str, ...]:
    found = [] if verified else ["the API server's certificate is not checked (insecure-skip-tls-verify)"]
    if lacking:
        found.append(f"the account may not: {', '.join(lacking)}")
    return tuple(found)


def _record(row: Cluster, bindings: Sequence[Binding]) -> ClusterRecord:
    return ClusterRecord(row.name, row.server, row.version, row.created, tuple(bindings), row.prefix)
