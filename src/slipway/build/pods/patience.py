"""What is asked of a cluster whose API server may be away for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slipway.build.pods.manifests import Object
from slipway.errors import Conflict, SlipwayError, Unavailable
from slipway.kubernetes import ClusterClient

T = TypeVar("T")
log = logging.getLogger(__name__)
AWAY_SECONDS = 300.0
_PAUSE = 1.0
Tell = Callable[[str], None]


async def patiently(work: Callable[[], Awaitable[T]], tell: Tell) -> T:
    """The result of ``work``, which is done again while the cluster does not answer; a build's log says so.

    Raises ``Unavailable`` when the cluster stays away, and what else ``work`` raises.
    """
    clock = asyncio.get_running_loop().time
    since: float | None = None
    while True:
        try:
            found = await work()
        except Unavailable as error:
            if since is None:
                since = clock()
                tell(f"waiting for the cluster: {error.message}")
            if clock() - since > AWAY_SECONDS:
                raise
            await asyncio.sleep(_PAUSE)
        else:
            if since is not None:
                tell("the cluster answers again")
            return found


async def created(client: ClusterClient, item: Object, tell: Tell) -> None:
    """An object whose name nobody else has. Raises ``Exhausted`` for a quota."""
    unheard = False

    async def attempt() -> None:
        nonlocal unheard
        try:
            await _created(client, item)
        except Unavailable:
            unheard = True
            raise
        except Conflict:
            metadata = item["metadata"]
            if (
                not unheard
                or await client.get(item["kind"], metadata["name"], metadata.get("namespace")) is None
            ):
                raise

    await patiently(attempt, tell)


async def _created(client: ClusterClient, item: Object) -> None:
    """Being cancelled waits for the answer: what is not there yet could not be removed."""
    creating = asyncio.create_task(client.create(item))
    try:
        await asyncio.shield(creating)
    except asyncio.CancelledError:
        await asyncio.wait({creating})
        raise


async def removed(client: ClusterClient, namespace: str, name: str) -> None:
    """A build's Pod and its Secret; goes on until the API server has said that they are gone."""

    async def gone(kind: str) -> None:
        while True:
            try:
                await client.delete(kind, name, namespace)
                return
            except Unavailable:
                await asyncio.sleep(_PAUSE)

    for error in await asyncio.gather(gone("Pod"), gone("Secret"), return_exceptions=True):
        if isinstance(error, SlipwayError):
            log.warning("the build's Pod %s/%s could not be removed: %s", namespace, name, error)
        elif error is not None:
            raise error
