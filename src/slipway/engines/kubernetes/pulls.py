"""What a project's namespace pulls images with: a login of short life, renewed long before it ends."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from slipway.base.clock import iso, now
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.setting import Setting
from slipway.errors import SlipwayError

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
        """There is one, and it is good for a while."""
        found = await client.get("Secret", SECRET, namespace)
        if found is None or is_due(found):
            await self._renew(client, project, namespace)

    async def renew_all(self, client: PatientClient) -> None:
        """Those whose life is half over. One that fails is tried again with the next call."""
        for item in await client.list("Secret", None, {PULL: "true"}):
            metadata = item["metadata"]
            project, namespace = metadata["labels"].get(names.PROJECT, ""), metadata["namespace"]
            ours = namespace == names.namespace_name(self._prefix, project) or namespace.startswith(
                f"{self._prefix}-"
            )
            if ours and is_due(item):
                try:
                    await self._renew(client, project, namespace)
                except SlipwayError as error:
                    log.warning("the pull secret of %s could not be renewed: %s", namespace, error)

    async def _renew(self, client: PatientClient, project: str, namespace: str) -> None:
        login = await self._logins.issue(project)
        await client.apply(pull_secret(project, namespace, self._registry, login))


def is_due(secret: Mapping[str, Any]) -> bool:
    annotations = secret["metadata"].get("annotations", {})
    try:
        issued = datetime.fromisoformat(annotations[_ISSUED])
        expires = datetime.fromisoformat(annotations[_EXPIRES])
    except (KeyError, ValueError):
        return True
    return now() >= issued + (expires - issued) / 2


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
