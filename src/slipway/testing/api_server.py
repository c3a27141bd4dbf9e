"""An API server of Kubernetes that answers as a test tells it to: for faults that a real one cannot be brought to.

By default it knows the version, a few kinds, and nothing else (404).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = tuple[int, Any] | Handler

KINDS: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "v1": {
        "Pod": ("pods", True),
        "Node": ("nodes", False),
        "ConfigMap": ("configmaps", True),
        "Namespace": ("namespaces", False),
        "Secret": ("secrets", True),
        "Service": ("services", True),
        "PersistentVolumeClaim": ("persistentvolumeclaims", True),
    },
    "apps/v1": {"Deployment": ("deployments", True), "StatefulSet": ("statefulsets", True)},
    "batch/v1": {"Job": ("jobs", True)},
    "networking.k8s.io/v1": {"Ingress": ("ingresses", True), "NetworkPolicy": ("networkpolicies", True)},
}


def status(code: int, reason: str = "", message: str = "", **details: Any) -> tuple[int, Any]:
    """A refusal as the API server words it."""
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    return code, {**body, "details": details}


def config_map(name: str, version: int, uid: str = "", **data: str) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
    }
    return {"metadata": metadata, "data": data}


def listing(version: int, *items: dict[str, Any], more: str = "") -> tuple[int, Any]:
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    return 200, {"kind": "List", "metadata": metadata, "items": list(items)}


def events(*changes: tuple[str, dict[str, Any]], breaks: bool = False) -> Handler:
    """A watch's answer; with ``breaks`` the connection is cut after it."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for kind, item in changes:
            await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")
        if breaks and request.transport is not None:
            request.transport.abort()
        return response

    return answer


@dataclass(slots=True)
class ApiServer:
    """``answers["GET /path"]`` are given one after another, the last one for ever; ``asked`` is what came."""

    url: str = ""
    kinds: dict[str, Mapping[str, tuple[str, bool]]] = field(default_factory=lambda: dict(KINDS))
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)

    def kubeconfig(self, **user: Any) -> str:
        return kubeconfig({"server": self.url}, user)

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.asked]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.asked.append(request)
        answers = self.answers.get(f"{request.method} {request.path}")
        answer = self._default(request.path) if not answers else answers.pop(0) if answers[1:] else answers[0]
        if not isinstance(answer, tuple):
            return await answer(request)
        code, body = answer
        headers = {"Retry-After": str(body["details"]["retryAfterSeconds"])} if _patient(body) else {}
        return web.json_response(body, status=code, headers=headers)

    def _default(self, path: str) -> Answer:
        if path == "/version":
            return 200, {"gitVersion": "v1.20.2"}
        if path == "/api":
            return 200, {"versions": ["v1"]}
        if path == "/apis":
            groups: dict[str, list[dict[str, str]]] = {}
            for name in (name for name in self.kinds if "/" in name):
                group, _, version = name.partition("/")
                groups.setdefault(group, []).append({"version": version})
            return 200, {"groups": [{"name": name, "versions": found} for name, found in groups.items()]}
        kinds = self.kinds.get(path.removeprefix("/apis/").removeprefix("/api/"))
        if kinds is not None:
            resources = [
                {"kind": kind, "name": name, "namespaced": namespaced}
                for kind, (name, namespaced) in kinds.items()
            ]
            return 200, {"resources": resources}
        return status(404, "NotFound", "the server could not find the requested resource")


def _patient(body: Any) -> bool:
    return isinstance(body, dict) and "retryAfterSeconds" in (body.get("details") or {})


def kubeconfig(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> str:
    document = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": dict(cluster)}],
        "users": [{"name": "u", "user": dict(user)}],
    }
    return str(yaml.safe_dump(document))


@asynccontextmanager
async def api_server() -> AsyncIterator[ApiServer]:
    found = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()
