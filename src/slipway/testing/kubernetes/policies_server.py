"""Keeps the rules of all nodes as the NetworkPolicies say; a part of the test cluster's control plane.

Watches Pods, namespaces and policies. A new Pod is open until the rules for its address are there, some hundred
milliseconds after the API server knows the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from pathlib import Path
from typing import Any

import aiohttp

from slipway.base.process import CommandFailed, run
from slipway.testing.kubernetes.identity import connected
from slipway.testing.kubernetes.policies import Peer, rules
from slipway.testing.kubernetes.site import API, NODES, Node

_PODS, _NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"
_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
_SETTLE_SECONDS = 0.05  # changes come in flocks
_CHECK_SECONDS = 2.0  # a node that was switched on again has no rules
_WATCH_SECONDS = 300


class Mirror:
    """The objects of one kind, kept as the API server has them."""

    def __init__(self, session: aiohttp.ClientSession, path: str, changed: asyncio.Event) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.complete = False
        self._session, self._path, self._changed = session, path, changed

    async def follow(self) -> None:
        """Never returns; begins anew after any trouble."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
                await self._watch(await self._list())
            await asyncio.sleep(0.5)

    async def _list(self) -> str:
        async with self._session.get(API + self._path, raise_for_status=True) as response:
            found = await response.json()
        self.objects = {_key(one): one for one in found["items"]}
        self.complete = True
        self._changed.set()
        version: str = found["metadata"]["resourceVersion"]
        return version

    async def _watch(self, version: str) -> None:
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(_WATCH_SECONDS)}
        timeout = aiohttp.ClientTimeout(total=_WATCH_SECONDS + 30)
        async with self._session.get(
            API + self._path, params=query, raise_for_status=True, timeout=timeout, read_bufsize=1 << 22
        ) as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                one = event["object"]
                if event["type"] == "DELETED":
                    self.objects.pop(_key(one), None)
                else:
                    self.objects[_key(one)] = one
                self._changed.set()


def _key(one: dict[str, Any]) -> tuple[str, str]:
    return one["metadata"].get("namespace", ""), one["metadata"]["name"]


class Enforcer:
    def __init__(self, pods: Mirror, namespaces: Mirror, policies: Mirror) -> None:
        self._pods, self._namespaces, self._policies = pods, namespaces, policies
        self._applied: dict[str, tuple[int, str]] = {}  # by node: which network namespace, which rules

    async def apply(self) -> None:
        if not (self._pods.complete and self._namespaces.complete and self._policies.complete):
            return
        labels = {
            name: one["metadata"].get("labels", {}) for (_, name), one in self._namespaces.objects.items()
        }
        policies = list(self._policies.objects.values())
        peers = [peer for pod in self._pods.objects.values() if (peer := Peer.of(pod))] if policies else []
        for path in NODES.iterdir():
            await self._apply(Node.named(path.name), rules(path.name, peers, labels, policies))

    async def _apply(self, node: Node, text: str) -> None:
        place = Path("/run/netns", node.namespace)
        try:
            wanted = place.stat().st_ino, text
            if self._applied.get(node.name) != wanted:
                await run(["nsenter", f"--net={place}", "nft", "-f", "-"], stdin=text.encode())
        except FileNotFoundError:  # it has no power
            self._applied.pop(node.name, None)
        except CommandFailed as error:
            if place.exists():
                print(f"{node.name}: {error}\n{text}", flush=True)
        else:
            self._applied[node.name] = wanted


async def main() -> None:
    changed = asyncio.Event()
    async with connected() as session, asyncio.TaskGroup() as tasks:
        pods, namespaces, policies = (
            Mirror(session, path, changed) for path in (_PODS, _NAMESPACES, _POLICIES)
        )
        for mirror in (pods, namespaces, policies):
            tasks.create_task(mirror.follow())
        enforcer = Enforcer(pods, namespaces, policies)
        while True:
            try:
                await enforcer.apply()
            except Exception:  # without rules all is open: better the next time than never again
                traceback.print_exc()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), _CHECK_SECONDS)
            await asyncio.sleep(_SETTLE_SECONDS)
            changed.clear()


if __name__ == "__main__":
    asyncio.run(main())
