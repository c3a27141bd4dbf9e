"""Two platforms in one cluster may have a project, an app and a Pod of the same name."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.delivery import AppRef, Instance
from slipway.engines.kubernetes import names
from slipway.engines.kubernetes.pods import Pods
from slipway.errors import NotFound, SlipwayError
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.testing.api_server import api_server, listing

APP = AppRef("demo", "shop")
DB = Instance("shop-db-0", "db", 1, 1, "", True)
RUN = f"GET /api/v1/namespaces/slipway-demo/pods/{DB.id}/exec"


def pod(namespace: str) -> dict[str, Any]:
    labels = names.service_labels(APP, DB.service)
    return {"metadata": {"name": DB.id, "namespace": namespace, "labels": labels}}


async def run(*namespaces: str) -> set[str]:
    """The commands that an API server with such a Pod in each of ``namespaces`` is asked for."""
    async with api_server() as server:
        server.answers["GET /api/v1/pods"] = [listing(1, *(pod(name) for name in namespaces))]
        async with ClusterClient(read_kubeconfig(server.kubeconfig())) as client:
            with pytest.raises(SlipwayError) as refused:  # this API server knows no commands
                async with Pods(client, "slipway-").run(APP, DB, ["id"], takes_input=False, terminal=False):
                    pass
        assert isinstance(refused.value, NotFound)
        return {path for path in server.paths() if path.endswith("/exec")}


async def test_a_command_runs_in_the_platforms_own_pod() -> None:
    assert await run("other-demo", "slipway-demo") == {RUN}


async def test_a_command_never_runs_in_another_platforms_pod() -> None:
    assert await run("other-demo") == set()
