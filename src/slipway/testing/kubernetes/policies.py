"""NetworkPolicies as nftables rules of a node: objects in, text out, no I/O.

A node sees every packet of its Pods, because it routes them. For each of its Pods that a policy isolates, the rules
list what is let out (on the node of the sender) or in (on the node of the receiver), and drop the rest. Answers to what
was let through pass; the node itself reaches its Pods always, as Kubernetes has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
TABLE = "slipkube"
NOTHING = f"table ip {TABLE}\ndelete table ip {TABLE}\n"
_SIDES = {"Egress": ("egress", "to", "saddr", "daddr"), "Ingress": ("ingress", "from", "daddr", "saddr")}


@dataclass(frozen=True, slots=True)
class Peer:
    """A Pod as far as policies care. ``ports`` are the named ones: (name, protocol) to number."""

    namespace: str
    labels: Mapping[str, str]
    address: str
    node: str
    ports: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, pod: Object) -> Peer | None:
        """``None`` for a Pod that has no address of its own, not yet or no more."""
        spec, status, metadata = pod["spec"], pod.get("status", {}), pod["metadata"]
        if (
            spec.get("hostNetwork")
            or not status.get("podIP")
            or status.get("phase") in ("Succeeded", "Failed")
        ):
            return None
        ports = {
            (port["name"], port.get("protocol", "TCP")): port["containerPort"]
            for container in spec["containers"]
            for port in container.get("ports", ())
            if "name" in port
        }
        return cls(
            metadata["namespace"], metadata.get("labels", {}), status["podIP"], spec["nodeName"], ports
        )


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector chooses what has ``labels``; an empty one chooses everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or ():
        key, operator, values = term["key"], term["operator"], term.get("values") or ()
        wanted = operator in ("In", "Exists")
        if (key in labels if operator in ("Exists", "DoesNotExist") else labels.get(key) in values) != wanted:
            return False
    return True


def rules(
    node: str, peers: Sequence[Peer], namespaces: Mapping[str, Mapping[str, str]], policies: Sequence[Object]
) -> str:
    """What ``nft -f`` makes of ``policies`` on ``node``; ``namespaces`` are labels by name."""
    chains: list[str] = []
    jumps: dict[str, list[str]] = {side: [] for side in _SIDES}
    for peer in sorted((one for one in peers if one.node == node), key=lambda one: one.address):
        for side, (field, _, own, _) in _SIDES.items():
            isolating = [policy for policy in policies if _isolates(policy, side, peer)]
            if not isolating:
                continue
            name = f"{field}-{peer.address.replace('.', '-')}"
            jumps[side].append(f"{peer.address} : jump {name}")
            allowed = [
                line
                for policy in isolating
                for rule in policy["spec"].get(field) or ()
                for line in _allowed(rule, side, policy["metadata"]["namespace"], peer, peers, namespaces)
            ]
            body = [f"ip {'daddr' if own == 'saddr' else 'saddr'} {peer.address} return", *allowed, "drop"]
            chains.append(_chain(name, body))
    if not chains:
        return NOTHING
    hooks = ["type filter hook forward priority -5; policy accept;", "ct state established,related accept"]
    for side, (_, _, own, _) in _SIDES.items():
        if jumps[side]:
            hooks.append(f"ip {own} vmap {{ {', '.join(jumps[side])} }}")
    return f"{NOTHING}table ip {TABLE} {{\n{''.join(chains)}{_chain('forward', hooks)}}}\n"


def _chain(name: str, body: Sequence[str]) -> str:
    return f"chain {name} {{\n" + "".join(f"{line}\n" for line in body) + "}\n"


def _isolates(policy: Object, side: str, peer: Peer) -> bool:
    spec = policy["spec"]
    kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return (
        side in kinds
        and policy["metadata"]["namespace"] == peer.namespace
        and matches(spec.get("podSelector") or {}, peer.labels)
    )


def _allowed(
    rule: Object, side: str, namespace: str, own: Peer, peers: Sequence[Peer],
    namespaces: Mapping[str, Mapping[str, str]],
) -> Iterator[str]:  # fmt: skip
    """Lines that let through what one rule of a policy allows to or from the Pod ``own``."""
    _, field, _, direction = _SIDES[side]
    entries, ports = rule.get(field) or (), rule.get("ports") or ()
    if not entries:
        yield from _with_ports("", ports, own if side == "Ingress" else None)
    for entry in entries:
        if block := entry.get("ipBlock"):
            if ":" in block["cidr"]:  # this cluster has no such addresses
                continue
            text = f"ip {direction} {block['cidr']}"
            if block.get("except"):
                text += f" ip {direction} != {{ {', '.join(block['except'])} }}"
            yield from _with_ports(text, ports, own if side == "Ingress" else None)
            continue
        for peer in peers:
            if _chooses(entry, namespace, peer, namespaces):
                yield from _with_ports(
                    f"ip {direction} {peer.address}", ports, own if side == "Ingress" else peer
                )


def _chooses(entry: Object, namespace: str, peer: Peer, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    if (selector := entry.get("namespaceSelector")) is not None:
        if not matches(selector, namespaces.get(peer.namespace, {})):
            return False
    elif peer.namespace != namespace:
        return False
    return matches(entry.get("podSelector") or {}, peer.labels)


def _with_ports(text: str, ports: Sequence[Object], receiver: Peer | None) -> Iterator[str]:
    """``text`` once for each port; names are the receiver's. A name that it does not have lets nothing through."""
    if not ports:
        yield f"{text} return".strip()
    for port in ports:
        protocol, number = port.get("protocol", "TCP"), port.get("port")
        if isinstance(number, str):
            number = receiver.ports.get((number, protocol)) if receiver else None
            if number is None:
                continue
        last = f"-{port['endPort']}" if "endPort" in port else ""
        match = f"{protocol.lower()} dport {number}{last}" if number else f"meta l4proto {protocol.lower()}"
        yield f"{text} {match} return".strip()
