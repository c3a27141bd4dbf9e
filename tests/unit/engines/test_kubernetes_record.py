"""Who holds an app, and what it says when it does not any more."""

from __future__ import annotations

import pytest

from slipway.base.progress import silent
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes.patient import PatientClient
from slipway.engines.kubernetes.record import Holding, Record, Records, record_manifest
from slipway.errors import Conflict, Unavailable
from slipway.kubernetes import ClusterClient, read_kubeconfig
from slipway.testing.api_server import api_server, status


def test_a_cluster_that_is_away_is_not_taken_for_another_controller() -> None:
    holding = Holding(Record("slipway-demo"))
    holding.check()
    holding.lost = Conflict("the record was written by another")
    with pytest.raises(Conflict, match="another controller has taken over: the record was written"):
        holding.check()
    holding.lost = Unavailable("connection refused")
    with pytest.raises(Unavailable, match="connection refused"):
        holding.check()


async def test_a_config_map_of_a_records_name_is_not_taken_for_one() -> None:
    theirs = {"kind": "ConfigMap", "metadata": {"name": "app.shop", "namespace": "slipway-demo"}, "data": {}}
    async with api_server() as server, ClusterClient(read_kubeconfig(server.kubeconfig())) as client:
        server.answers["GET /api/v1/namespaces/slipway-demo/configmaps/app.shop"] = [(200, theirs)]
        with pytest.raises(Conflict, match=r"ConfigMap app\.shop in the namespace slipway-demo"):
            async with Records("me", 15).held(
                PatientClient(client, silent, 0), AppRef("demo", "shop"), "slipway-demo", 0, 1
            ):
                pass
        assert {item.method for item in server.asked} == {"GET"}


async def test_two_that_make_the_first_record_at_once_do_not_both_hold_it() -> None:
    app, path = AppRef("demo", "shop"), "/api/v1/namespaces/slipway-demo/configmaps"
    other = record_manifest(app, Record("slipway-demo", move=1, holder="other"))
    other["metadata"]["resourceVersion"] = "7"
    async with api_server() as server, ClusterClient(read_kubeconfig(server.kubeconfig())) as client:
        server.answers[f"GET {path}/app.shop"] = [status(404, "NotFound"), (200, other)]
        server.answers[f"POST {path}"] = [
            status(409, "AlreadyExists", 'configmaps "app.shop" already exists')
        ]
        with pytest.raises(Conflict, match="is being changed by another controller"):
            async with Records("me", 15).held(PatientClient(client, silent, 0), app, "slipway-demo", 0, 1):
                pytest.fail("held by two")
        assert not [item for item in server.asked if item.method == "PATCH"]
