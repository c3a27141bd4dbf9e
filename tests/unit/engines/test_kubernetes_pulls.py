"""Pull secrets: whose are renewed, whose end, whose go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from slipway.base.clock import iso, now
from slipway.base.progress import silent
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.pulls import PullLogin, PullSecrets, pull_secret
from slipway.engines.kubernetes.setting import Setting
from slipway.errors import Conflict, NotFound
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.testing.api_server import ApiServer, api_server, listing

PATH = "/api/v1/namespaces/slipway-demo/secrets/slipway-pull"


@dataclass
class Logins:
    gone: set[str] = field(default_factory=set)
    issued: list[str] = field(default_factory=list)

    async def issue(self, project: str) -> PullLogin:
        if project in self.gone:
            raise NotFound(f"there is no project {project!r}")
        self.issued.append(project)
        return PullLogin("robot", "s3cret", now() + timedelta(hours=24))


@dataclass
class Site:
    server: ApiServer
    client: PatientClient
    logins: Logins = field(default_factory=Logins)

    @property
    def pulls(self) -> PullSecrets:
        return PullSecrets(self.logins, Setting("registry.test"))

    def has(self, issued_hours_ago: float) -> None:
        login = PullLogin("robot", "s3cret", now() + timedelta(hours=24 - issued_hours_ago))
        secret = pull_secret("demo", "slipway-demo", "registry.test", login)
        secret["metadata"]["annotations"]["slipway/issued"] = iso(now() - timedelta(hours=issued_hours_ago))
        secret["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
        self.server.answers["GET /api/v1/secrets"] = [listing(7, secret)]

    async def asked(self) -> list[tuple[str, Any]]:
        found = [item for item in self.server.asked if item.path == PATH]
        return [(item.method, (await item.json()).get("preconditions")) for item in found]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with api_server() as server, ClusterClient(read_kubeconfig(server.kubeconfig())) as client:
        server.answers |= {f"PATCH {PATH}": [(200, {})], f"DELETE {PATH}": [(200, {})]}
        yield Site(server, PatientClient(client, silent, 0))


REMOVED = ("DELETE", {"uid": "u1", "resourceVersion": "7"})


@pytest.mark.parametrize(
    ("hours", "used", "expected"),
    [
        (1, True, []), (13, True, [("PATCH", None)]), (25, True, [("PATCH", None)]),
        (1, False, []), (13, False, []), (25, False, [REMOVED]),
    ],
)  # fmt: skip
async def test_a_secret_is_renewed_where_an_app_is(
    site: Site, hours: float, used: bool, expected: list[tuple[str, Any]]
) -> None:
    site.has(issued_hours_ago=hours)
    await site.pulls.renew_all(site.client, {"slipway-demo"} if used else {"slipway-other"})
    assert await site.asked() == expected
    assert site.logins.issued == (["demo"] if ("PATCH", None) in expected else [])


async def test_that_of_a_project_that_is_gone_is_removed(site: Site) -> None:
    site.has(issued_hours_ago=13)
    site.logins.gone.add("demo")
    await site.pulls.renew_all(site.client, {"slipway-demo"})
    assert await site.asked() == [REMOVED]


async def test_somebody_elses_is_not_overwritten(site: Site) -> None:
    metadata = {"name": "slipway-pull", "namespace": "slipway-demo"}
    site.server.answers[f"GET {PATH}"] = [(200, {"kind": "Secret", "metadata": metadata})]
    with pytest.raises(Conflict, match="somebody else made"):
        await site.pulls.ensure(site.client, "demo", "slipway-demo")
    assert not site.logins.issued
