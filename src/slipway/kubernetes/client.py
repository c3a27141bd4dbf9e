"""One cluster's API server, as the rest of Slipway uses it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

from slipway.errors import Invalid, NotFound
from slipway.kubernetes.discovery import Discovery, Resource, gone
from slipway.kubernetes.kubeconfig import Endpoint, read_kubeconfig
from slipway.kubernetes.listing import Listing, list_all, selector
from slipway.kubernetes.podlogs import LogRequest, PodLog
from slipway.kubernetes.running import PodCommand, run_in_pod
from slipway.kubernetes.transport import Transport
from slipway.kubernetes.watching import Change, Watch

T = TypeVar("T")
FIELD_MANAGER = "slipway"
Propagation = Literal["Background", "Foreground", "Orphan"]
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?", re.ASCII)
_CLOSES_INPUT = (1, 30)


class ClusterClient:
    """Open until ``aclose`` (or the end of its ``async with``); one for many users at the same time.

    Names of kinds are as in manifests (``Deployment``), with their group where it is not one of Kubernetes' own
    (``Certificate.cert-manager.io``). Objects are dictionaries with ``apiVersion`` and ``kind``, lists' too. All
    raise ``Unavailable`` when the cluster does not answer after a few attempts, ``Denied`` and ``Unauthenticated``,
    and ``Unsupported`` for a kind it does not know.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport | None = None) -> None:
        """Opens nothing. Raises ``Invalid`` for certificates that cannot be used."""
        self.endpoint = endpoint
        self._transport = transport or Transport(endpoint)
        self._discovery = Discovery(self._transport)

    @classmethod
    async def connect(cls, kubeconfig: str, context: str | None = None) -> ClusterClient:
        """To the cluster of a kubeconfig's text, which was asked for its version.

        Raises what ``read_kubeconfig`` does, and ``Unavailable``.
        """
        client = cls(read_kubeconfig(kubeconfig, context))
        try:
            await client.version()
        except BaseException:
            await client.aclose()
            raise
        return client

    async def __aenter__(self) -> ClusterClient:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    @property
    def requests(self) -> int:
        """How many requests were sent to the API server so far, retries included."""
        return self._transport.requests

    async def version(self) -> str:
        """For example ``v1.20.2``."""
        return str((await self._transport.json("GET", "/version", "ask its version")).get("gitVersion") or "")

    async def resource(self, kind: str, api_group: str | None = None) -> Resource:
        """How the cluster serves ``kind``, in its best version. Raises ``Unsupported``."""
        return await self._discovery.find(kind, api_group)

    # What is there

    async def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        try:
            return await self._asked(
                kind, lambda found: self._one("GET", found, name, namespace, f"see {kind} {name}")
            )
        except NotFound:
            return None

    async def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | str | None = None,
        fields: str | None = None,
    ) -> Listing:  # fmt: skip
        """Of all namespaces without ``namespace``. ``fields`` is a field selector: ``spec.nodeName=n1``."""
        if namespace is not None:
            _checked(namespace)
        params = _selectors(labels, fields)
        return await self._asked(kind, lambda found: list_all(self._transport, found, namespace, params))

    def watch(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | str | None = None
    ) -> AsyncGenerator[Change, None]:
        """What there is as ``added``, then ``synced``, then changes, for ever: outlives restarts of the API server and
        expired versions, after which another ``synced`` comes. A deletion that was missed has metadata only.

        Raises what the first listing does, but waits where the cluster does not answer. Leave it within
        ``contextlib.aclosing``, which ends its connection at once.
        """
        if namespace is not None:
            _checked(namespace)
        return Watch(self._transport, self._discovery, kind, namespace, _selectors(labels, None)).changes()

    # What is changed

    async def apply(self, obj: dict[str, Any], *, force: bool = True) -> dict[str, Any]:
        """Server-side apply as the field manager ``slipway``: what an earlier apply had and this one lacks is removed,
        what others own stays, unless ``force`` takes it where both say something.

        Raises ``Conflict`` (without ``force``), ``Invalid``, ``Exhausted`` for quota.
        """
        what = f"apply {_described(obj)}"
        params = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        return await self._written(
            obj,
            lambda found: self._one(
                "PATCH", found, _metadata(obj, "name"), _metadata(obj, "namespace"), what, params=params,
                body={**obj, "apiVersion": found.api_version}, content_type="application/apply-patch+yaml",
            ),
        )  # fmt: skip

    async def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Raises ``Conflict`` when there is one already, ``Invalid``, ``Exhausted`` for quota.

        ``dry_run``: only says what it would, after all checks and admissions; that there is one comes last.
        """
        params = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}

        async def send(found: Resource) -> dict[str, Any]:
            return await self._transport.json(
                "POST", found.path(_space(found, _metadata(obj, "namespace"))), f"create {_described(obj)}",
                params=params, body={**obj, "apiVersion": found.api_version}, repeatable=dry_run,
            )  # fmt: skip

        return await self._written(obj, send)

    async def delete(
        self, kind: str, name: str, namespace: str | None = None, *,
        propagation: Propagation = "Background", uid: str | None = None, version: str | None = None,
    ) -> bool:  # fmt: skip
        """``False``: it was not there. Raises ``Conflict`` when another of the name is there now than that of ``uid``,
        or it was changed since ``version``.

        Returns when the deletion is accepted; what has finalizers or a time to end is still there for a while.
        """
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid, **({"resourceVersion": version} if version else {})}
        try:
            await self._asked(
                kind,
                lambda found: self._one("DELETE", found, name, namespace, f"delete {kind} {name}", body=body),
            )
        except NotFound:
            return False
        return True

    # Pods

    def logs(
        self, namespace: str, pod: str, container: str | None = None, *, follow: bool = False,
        tail: int | None = None, since: str | None = None, previous: bool = False, timestamps: bool = True,
    ) -> AsyncGenerator[bytes, None]:  # fmt: skip
        """Lines, each after its RFC 3339 moment and a space (``timestamps``); above 1 MiB they come in pieces.

        ``follow`` ends with the container and goes on over breaks of the connection. Raises ``NotFound`` without
        the Pod and ``Unavailable`` when the container has not started yet.
        """
        request = LogRequest(
            _checked(namespace), _checked(pod), container, follow, tail, since, previous, timestamps
        )
        return PodLog(self._transport, request).read()

    @asynccontextmanager
    async def run(
        self, namespace: str, pod: str, command: Sequence[str], container: str | None = None, *,
        takes_input: bool = False, terminal: bool = False,
    ) -> AsyncIterator[PodCommand]:  # fmt: skip
        """A command in a container that runs; when the block is left, we are done with it.

        Raises ``NotFound`` without the Pod, ``Unavailable`` when the cluster does not answer.
        """
        knows_v5 = takes_input and _numbers(await self.version()) >= _CLOSES_INPUT
        async with run_in_pod(
            self._transport, _checked(namespace), _checked(pod), command, container, takes_input=takes_input,
            terminal=terminal, knows_v5=knows_v5,
        ) as found:  # fmt: skip
            yield found

    # How

    async def _one(
        self, method: str, found: Resource, name: str, namespace: str | None, what: str, **more: Any
    ) -> dict[str, Any]:
        path = found.path(_space(found, namespace), _checked(name))
        return await self._transport.json(method, path, what, **more)

    async def _asked(self, kind: str, send: Callable[[Resource], Awaitable[T]], wanted: str = "") -> T:
        """With the version served; asked for anew once when the kind turns out to be gone from there."""
        try:
            return await send(await self._discovery.find(kind, wanted=wanted))
        except NotFound as error:
            if not gone(error):
                raise
            self._discovery.forget()
            return await send(await self._discovery.find(kind, wanted=wanted))

    async def _written(
        self, obj: Mapping[str, Any], send: Callable[[Resource], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
        kind = f"{obj.get('kind') or ''}"
        return await self._asked(f"{kind}.{group}" if group else kind, send, version)


def _selectors(labels: Mapping[str, str] | str | None, fields: str | None) -> dict[str, str]:
    chosen = selector(labels)
    return {**({"labelSelector": chosen} if chosen else {}), **({"fieldSelector": fields} if fields else {})}


def _checked(name: str) -> str:
    """Names go into paths."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name of a Kubernetes object")
    return name


def _space(found: Resource, namespace: str | None) -> str | None:
    if not found.namespaced:
        return None
    if not namespace:
        raise Invalid(f"a {found.kind} is in a namespace, and none was named")
    return _checked(namespace)


def _metadata(obj: Mapping[str, Any], key: str) -> str:
    metadata = obj.get("metadata")
    return str(metadata.get(key) or "") if isinstance(metadata, Mapping) else ""


def _described(obj: Mapping[str, Any]) -> str:
    place = "/".join(part for part in (_metadata(obj, "namespace"), _metadata(obj, "name")) if part)
    return f"{obj.get('kind') or 'an object'} {place}".strip()


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v(\d{1,6})\.(\d{1,6})", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
