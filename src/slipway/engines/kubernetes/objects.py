"""What is wanted next to what there is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.engines.kubernetes import names

Object = dict[str, Any]
# Of an app's objects, in the order in which they are applied; what is no longer wanted goes in the other direction.
KINDS = (
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "PersistentVolumeClaim",
    "Service",
    "StatefulSet",
    "Deployment",
    "Job",
    "Ingress",
)
CLAIM = "PersistentVolumeClaim"
# By which entries of a list of mappings are told apart, whoever else adds some.
_KEYS = ("name", "mountPath", "containerPort", "port", "ip", "host")


@dataclass(frozen=True, slots=True)
class Key:
    """An object's identity."""

    kind: str
    namespace: str
    name: str


def key_of(obj: Mapping[str, Any]) -> Key:
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def by_key(found: Iterable[Object]) -> dict[Key, Object]:
    return {key_of(item): item for item in found}


@dataclass(frozen=True, slots=True)
class Difference:
    """``apply``: missing or not as wanted. ``prune``: of the app and not wanted; volumes never are among them."""

    apply: tuple[Object, ...]
    prune: tuple[Object, ...]

    @property
    def none(self) -> bool:
        return not self.apply and not self.prune

    def describe(self) -> str:
        words = [f"apply {item['kind']} {item['metadata']['name']}" for item in self.apply]
        return ", ".join(words + [f"remove {item['kind']} {item['metadata']['name']}" for item in self.prune])


def difference(wanted: Iterable[Object], there: Mapping[Key, Object]) -> Difference:
    """``there``: everything that carries the app's labels."""
    wanted = list(wanted)
    keys = {key_of(item) for item in wanted}
    apply = tuple(item for item in wanted if not as_wanted(item, there.get(key_of(item))))
    prune = tuple(
        item for key, item in there.items() if key not in keys and key.kind != CLAIM and not is_leaving(item)
    )
    return Difference(apply, prune)


def as_wanted(wanted: Object, there: Object | None) -> bool:
    """Whether what we last applied is ``wanted``, and every field of it is still as we said."""
    if there is None or is_leaving(there):
        return False
    if wanted["kind"] in ("Job", CLAIM):
        # A Job's name says what it runs, and it runs once. A claim's size is for its owner to change.
        return True
    applied = there["metadata"].get("annotations", {}).get(names.APPLIED)
    if applied != wanted["metadata"]["annotations"][names.APPLIED] or lacks_address(there, wanted):
        return False
    return contains(there, wanted)


def lacks_address(there: Object, wanted: Object) -> bool:
    """Whether a Service is to have an address and was made without: clusters after 1.20 take that, and give it none."""
    if wanted["kind"] != "Service" or "clusterIP" in wanted.get("spec", {}):
        return False
    return bool(there.get("spec", {}).get("clusterIP") == "None")


def is_leaving(obj: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def contains(there: Any, wanted: Any) -> bool:
    """Whether everything ``wanted`` says is so ``there``; defaults and what others added do not matter."""
    if isinstance(wanted, Mapping):
        if not wanted:
            return there is None or isinstance(there, Mapping)
        return isinstance(there, Mapping) and all(
            contains(there.get(key), value) for key, value in wanted.items() if key != "apiVersion"
        )
    if isinstance(wanted, list):
        return _contains_list(there or [], wanted)
    return bool(there == wanted)


def _contains_list(there: Any, wanted: list[Any]) -> bool:
    if not isinstance(there, list):
        return False
    if wanted and all(isinstance(item, Mapping) for item in wanted):
        for key in _KEYS:
            if all(key in item for item in wanted):
                known = {item.get(key): item for item in there if isinstance(item, Mapping)}
                return all(contains(known.get(item[key]), item) for item in wanted)
    return len(there) == len(wanted) and all(map(contains, there, wanted))
