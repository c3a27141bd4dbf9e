"""What an installation may differ in: each value once, with its default and its help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

from slipway import __version__
from slipway.errors import Invalid


@dataclass(frozen=True, slots=True)
class Value:
    """``name`` is dotted, as in a chart's ``values.yaml``; its type is that of ``default``."""

    name: str
    default: str | int
    help: str


_PRIVATE = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fc00::/7"
VALUES = (
    Value("image", f"library/slipway:{__version__}", "The platform's image, with its registry's address."),
    Value("pullSecret", "slipway-pull", "Secret with a login for that registry; may be missing."),
    Value("settings", "slipway-settings", "Secret of SLIPWAY_… variables: the database and the bucket."),
    Value("keys", "slipway-keys", "Secret with what `slipway install keys` makes."),
    Value("admin", "slipway-admin", "Secret with the first administrator's password; may be missing."),
    Value("api.replicas", 2, "Processes of the platform API; 0: registries alone."),
    Value("api.cpu", "250m", "CPU that one of them asks for."),
    Value("api.memory", "1Gi", "Memory that one may use."),
    Value("api.nodePort", 0, "Also answer on this port of every node; 0: do not."),
    Value("registryAddress", "", "HOST:PORT by which nodes pull from the registry, e.g. the Ingress's host."),
    Value("cluster", "here", "What the platform calls the cluster it runs in."),
    Value("domain", "localhost", "Apps are SERVICE.APP.PROJECT.DOMAIN."),
    Value("registry.replicas", 2, "Processes of the registry."),
    Value("registry.cpu", "250m", "CPU that one of them asks for."),
    Value("registry.memory", "512Mi", "Memory that one may use."),
    Value("registry.nodePort", 0, "Also answer on this port of every node; 0: do not."),
    Value("logLevel", "info", "debug, info, warning or error."),
    Value("host", "", "Host name of the Ingress; empty: none."),
    Value("ingressClass", "nginx", "Its class."),
    Value("tlsSecret", "slipway-tls", "Secret with its certificate."),
    Value(
        "proxies", _PRIVATE, "Networks that the Ingress's requests come from: its X-Forwarded-… are believed."
    ),
)
_BY_NAME = {value.name: value for value in VALUES}


def read_values(text: str, flags: Sequence[str]) -> dict[str, str | int]:
    """Defaults, then a YAML file's text, then ``NAME=VALUE`` flags. Raises ``Invalid`` for what is not a value."""
    found = {value.name: value.default for value in VALUES}
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise Invalid(f"the values are not YAML: {error}") from error
    if not isinstance(document, Mapping):
        raise Invalid("the values must be a mapping", hint="`slipway install chart` writes an example")
    for name, given in _flat(document):
        found[name] = _typed(name, given)
    for flag in flags:
        name, sign, given = flag.partition("=")
        if not sign:
            raise Invalid(f"not NAME=VALUE: {flag!r}", hint="e.g. --set registry.replicas=3")
        found[name] = _typed(name, given)
    return found


def _flat(document: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, given in document.items():
        name = f"{prefix}{key}"
        found += _flat(given, f"{name}.") if isinstance(given, Mapping) else [(name, given)]
    return found


def _typed(name: str, given: Any) -> str | int:
    value = _BY_NAME.get(name)
    if value is None:
        close = get_close_matches(name, _BY_NAME, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"values are {', '.join(_BY_NAME)}"
        raise Invalid(f"there is no value {name!r}", hint=hint)
    if isinstance(value.default, str):
        return "" if given is None else str(given)
    try:
        number = int(str(given))
    except ValueError:
        number = -1
    if number < 0:
        raise Invalid(f"{name} = {given!r}: not a number from 0", hint=value.help)
    return number
