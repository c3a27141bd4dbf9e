"""What a project's namespace pulls images with: a login of short life, renewed long before it ends."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from slipway.base.clock import iso, now
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.ownership import check_ours
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.setting import Setting
from slipway.errors import NotFound, SlipwayError

log = logging.getLogger(__name__)
SECRET = "slipway-pull"
PULL = f"{names.LABEL}pull"
_ISSUED, _EXPIRES = f"{names.LABEL}issued", f"{names.LABEL}expires"


@dataclass(frozen=True, slots=True)
class PullLogin:
    """May pull what the project may, until ``expires``."""

    user: str
    secret: str
    expires: datetime


class PullLogins(Protocol):
    """Issues logins; each call another one. Those before stay good until they expire."""

    async def issue(self, project: str) -> PullLogin: ...


class PullSecrets:
    """One Secret in each namespace of ours."""

    def __init__(self, logins: PullLogins, setting: Setting) -> None:
        self._logins = logins
        self._registry = setting.registry
        self._prefix = setting.prefix

    async def ensure(self, client: PatientClient, project: str, namespace: str) -> None:
        """There is one, and it is good for a while. Raises ``Conflict`` when somebody else has one of its name."""
        found = await client.get("Secret", SECRET, namespace)
        if found is not None:
            check_ours(found, {names.MANAGED: names.MANAGER, PULL: "true"})
        if found is None or is_due(found):
            await self._renew(client, project, namespace)

    async def renew_all(self, client: PatientClient, used: Collection[str]) -> None:
        """Those whose life is half over, in the namespaces that are ``used`` by apps; elsewhere they end, and go.

        One that fails is tried again with the next call.
        """
        for item in await client.list("Secret", None, {PULL: "true"}):
            if is_in_ours(item, self._prefix):
                try:
                    await self._see_to(client, item, used)
                except SlipwayError as error:
                    log.warning("the pull secret of %s: %s", item["metadata"]["namespace"], error)

    async def _see_to(self, client: PatientClient, secret: dict[str, Any], used: Collection[str]) -> None:
        namespace = secret["metadata"]["namespace"]
        if namespace not in used:
            if is_over(secret):
                await client.delete(secret, unchanged=True)
        elif is_due(secret):
            try:
                await self._renew(client, secret["metadata"]["labels"].get(names.PROJECT, ""), namespace)
            except NotFound:  # the project is gone, and with it who pulls for it
                await client.delete(secret, unchanged=True)

    async def _renew(self, client: PatientClient, project: str, namespace: str) -> None:
        login = await self._logins.issue(project)
        await client.apply(pull_secret(project, namespace, self._registry, login))


def is_in_ours(secret: Mapping[str, Any], prefix: str) -> bool:
    """Whether it is in a namespace of this platform's apps."""
    namespace = str(secret["metadata"]["namespace"])
    shared = names.namespace_name(prefix, secret["metadata"]["labels"].get(names.PROJECT, ""))
    return namespace == shared or namespace.startswith(f"{prefix}-")


def is_due(secret: Mapping[str, Any]) -> bool:
    life = _life(secret)
    return life is None or now() >= life[0] + (life[1] - life[0]) / 2


def is_over(secret: Mapping[str, Any]) -> bool:
    life = _life(secret)
    return life is None or now() >= life[1]


def _life(secret: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """From when to when it is good, if that can be read."""
    annotations = secret["metadata"].get("annotations") or {}
    try:
        return datetime.fromisoformat(annotations[_ISSUED]), datetime.fromisoformat(annotations[_EXPIRES])
    except (KeyError, ValueError):
        return None


def pull_secret(project: str, namespace: str, registry: str, login: PullLogin) -> dict[str, Any]:
    pair = base64.b64encode(f"{login.user}:{login.secret}".encode()).decode()
    config = {"auths": {registry: {"username": login.user, "password": login.secret, "auth": pair}}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": SECRET,
            "namespace": namespace,
            "labels": {names.MANAGED: names.MANAGER, names.PROJECT: project, PULL: "true"},
            "annotations": {_ISSUED: iso(now()), _EXPIRES: iso(login.expires)},
        },
        "data": {".dockerconfigjson": base64.b64encode(json.dumps(config).encode()).decode()},
    }
