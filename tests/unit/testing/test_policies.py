"""NetworkPolicies of the test cluster as rules."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.testing.kubernetes.policies import NOTHING, Peer, matches, rules

WEB = Peer("demo", {"app": "web"}, "10.95.1.2", "node-1", {("http", "TCP"): 8080})
DB = Peer("demo", {"app": "db"}, "10.95.2.2", "node-2", {})
OTHER = Peer("else", {"app": "web"}, "10.95.1.3", "node-1", {})
PEERS = (WEB, DB, OTHER)
NAMESPACES = {"demo": {"team": "a"}, "else": {"team": "b"}}


def _policy(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "one", "namespace": "demo"}, "spec": {"podSelector": {}, **spec}}


def _lines(node: str, *policies: dict[str, Any]) -> list[str]:
    return rules(node, PEERS, NAMESPACES, policies).splitlines()


def test_no_policy_makes_no_rules() -> None:
    assert rules("node-1", PEERS, NAMESPACES, []) == NOTHING


def test_deny_everything_holds_pods_of_its_namespace_alone() -> None:
    text = rules("node-1", PEERS, NAMESPACES, [_policy(policyTypes=["Ingress", "Egress"])])
    assert "ip saddr vmap { 10.95.1.2 : jump egress-10-95-1-2 }" in text
    assert "ip daddr vmap { 10.95.1.2 : jump ingress-10-95-1-2 }" in text
    assert OTHER.address not in text
    assert text.count("drop") == 2


def test_peers_and_ports_are_let_through() -> None:
    lines = _lines(
        "node-1",
        _policy(
            podSelector={"matchLabels": {"app": "web"}},
            ingress=[
                {"from": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": "http"}]}
            ],
        ),
    )
    assert "ip saddr 10.95.2.2 tcp dport 8080 return" in lines
    assert not any("egress" in line for line in lines)


def test_namespaces_are_chosen_by_their_labels() -> None:
    chosen = {"namespaceSelector": {"matchLabels": {"team": "b"}}}
    lines = _lines("node-2", _policy(policyTypes=["Egress"], egress=[{"to": [chosen]}]))
    assert "ip daddr 10.95.1.3 return" in lines
    assert "ip daddr 10.95.1.2 return" not in lines


def test_blocks_have_exceptions_and_ports_alone_mean_everybody() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}}
    dns = {"ports": [{"port": 53, "protocol": "UDP"}]}
    newer = {"ipBlock": {"cidr": "::/0"}}
    lines = _lines("node-2", _policy(policyTypes=["Egress"], egress=[{"to": [block, newer]}, dns]))
    assert not any("::" in line for line in lines)
    assert "ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8, 192.168.0.0/16 } return" in lines
    assert "udp dport 53 return" in lines


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [("In", ["a"], True), ("NotIn", ["a"], False), ("Exists", None, True), ("DoesNotExist", None, False)],
)
def test_selectors_with_expressions(operator: str, values: list[str] | None, expected: bool) -> None:
    term = {"key": "team", "operator": operator, "values": values}
    assert matches({"matchExpressions": [term]}, {"team": "a"}) is expected


def test_pod_counts_while_it_has_an_address() -> None:
    pod: dict[str, Any] = {
        "metadata": {"namespace": "demo", "name": "one"},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
        },
        "status": {"phase": "Running", "podIP": "10.95.1.9"},
    }
    assert Peer.of(pod) == Peer("demo", {}, "10.95.1.9", "node-1", {("dns", "UDP"): 53})
    assert Peer.of(pod | {"status": {"phase": "Succeeded", "podIP": "10.95.1.9"}}) is None
    assert Peer.of(pod | {"status": {"phase": "Pending"}}) is None
