"""Every setting once: name, type, default, help. File, environment and flags all come from this table."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from slipway.errors import Invalid

DEFAULT_FILE = Path("/etc/slipway/slipway.toml")


def _address(text: str) -> str:
    host, sign, port = text.rpartition(":")
    if not sign or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("an address is HOST:PORT, e.g. 127.0.0.1:7070")
    return text


def _path(text: str) -> str:
    if not os.path.isabs(text):
        raise ValueError("the path must be absolute")
    return text


def _optional_path(text: str) -> str:
    return _path(text) if text else ""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _networks(text: str) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(word)) for word in _words(text))


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise ValueError("the number must be above 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if value < 0:
        raise ValueError("the number must be 0 or more")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("the number must be 0 or more")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError("the number must be above 0")
    return value


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not match or not int(match[1]):
        raise ValueError("a size is a number with k, m, g or t, e.g. 4g")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]


def _optional_size(text: str) -> int:
    return _size(text) if text else 0


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return parse


def _switch(text: str) -> bool:
    words = {"on": True, "true": True, "off": False, "false": False}
    if text.lower() not in words:
        raise ValueError("on or off")
    return words[text.lower()]


def _database(text: str) -> str:
    if text and not text.startswith(("postgresql://", "postgresql+asyncpg://")):
        raise ValueError("an address is postgresql://USER:PASSWORD@HOST/DATABASE")
    return text.replace("postgresql://", "postgresql+asyncpg://", 1)


def _bucket(text: str) -> str:
    if text and not text.startswith("s3://"):
        raise ValueError("an address is s3://BUCKET/PREFIX?endpoint=https://…&region=…")
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """``name`` is dotted: the TOML path, and with ``SLIPWAY_`` and ``_`` the environment variable.

    What a ``secret`` one was set to is never said.
    """

    name: str
    parse: Callable[[str], Any]
    default: str
    help: str
    secret: bool = False

    @property
    def variable(self) -> str:
        return "SLIPWAY_" + self.name.replace(".", "_").upper()


SETTINGS = (
    Setting("data", _path, "/var/lib/slipway", "Everything that must survive."),
    Setting("run", _path, "/run/slipway", "Sockets, pid files and what ends with a reboot."),
    Setting("keys", _optional_path, "", "Directory of the token signing key; servers of one site share it."),
    Setting("database.url", _database, "", "PostgreSQL; default SQLite below `data`.", secret=True),
    Setting("storage.url", _bucket, "", "Bucket for blobs, s3://…; default the directory `data`."),
    Setting("storage.access_key", str, "", "The bucket's key; default AWS_ACCESS_KEY_ID and its kin."),
    Setting("storage.secret_key", str, "", "Its secret; better in the file or environment.", secret=True),
    Setting("listen", _address, "127.0.0.1:7070", "Platform API, registry and console."),
    Setting(
        "tls.certificate", _optional_path, "", "PEM file of the listener's certificate; with it, HTTPS only."
    ),
    Setting("tls.key", _optional_path, "", "PEM file of the certificate's key."),
    Setting("tls.ca", _optional_path, "", "PEM file of the certificate's authority; empty: a public one."),
    Setting(
        "tls.local_ca", _switch, "off", "Without a certificate: make one, signed by an authority of our own."
    ),
    Setting("tls.names", _words, "", "Further names and addresses in it, separated by commas."),
    Setting(
        "proxies",
        _networks,
        "127.0.0.1/32,::1/128",
        "Networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    ),
    Setting("oidc.issuer", str, "", "OpenID provider for logins beside local users; empty: none."),
    Setting("oidc.client_id", str, "", "What the provider knows this server as."),
    Setting("oidc.client_secret", str, "", "Empty for a public client."),
    Setting("oidc.username_claim", str, "preferred_username", "Claim with the user's name."),
    Setting("oidc.groups_claim", str, "groups", "Claim with the user's groups; dots go into objects."),
    Setting("oidc.admin_group", str, "", "Its members administer the platform."),
    Setting("oidc.group_roles", _words, "", "GROUP=PROJECT:ROLE, …: memberships that come with groups."),
    Setting("oidc.scopes", str, "", "What is asked for; empty: openid profile email, groups if there."),
    Setting("oidc.ca", _optional_path, "", "PEM file of the authority to trust for the provider."),
    Setting("oidc.login_hours", _positive, "12", "How long a login through the provider lasts."),
    Setting("oidc.token_days", _positive, "30", "How long after it the user's personal tokens work."),
    Setting("apps.listen", _address, "127.0.0.1:8080", "Where delivered apps answer, by host name."),
    Setting("apps.domain", str, "localhost", "Apps are SERVICE.APP.PROJECT.DOMAIN."),
    Setting(
        "build.parallel", _count, str(max(4, 4 * (os.cpu_count() or 1))), "Builds that run at the same time."
    ),
    Setting("build.cpus", _positive, str(os.cpu_count() or 1), "CPUs of one build."),
    Setting("build.memory", _size, "4g", "Memory of one build."),
    Setting("build.pids", _count, "4096", "Processes of one build."),
    Setting("build.seconds", _count, "3600", "Time of one build."),
    Setting("build.disk", _size, "64g", "What one step of a build may write, to kept directories as well."),
    Setting("build.ca_bundle", _optional_path, "", "PEM file of further certificate authorities for RUN."),
    Setting("build.http_proxy", str, "", "Proxy for RUN; no image keeps it."),
    Setting("build.https_proxy", str, "", "The same for HTTPS."),
    Setting("build.no_proxy", str, "", "Hosts that need no proxy, separated by commas."),
    Setting("build.cache_size", _size, "20g", "What the build cache keeps at most."),
    Setting("build.cache_days", _positive, "30", "After how many days without use it is forgotten."),
    Setting(
        "build.log_size", _size, "64m", "What is kept of the log of one build: its beginning and its end."
    ),
    Setting("build.keep_days", _positive, "90", "After how many days a build's record and log are removed."),
    Setting(
        "registry.idle_seconds",
        _positive,
        "120",
        "A client is ended that sends less than 64 KiB of a push, or takes nothing of a pull, for so long.",
    ),
    Setting(
        "registry.requests_per_second",
        _not_negative,
        "0",
        "Registry requests of one account, or of one address without one; 0: no limit.",
    ),
    Setting(
        "kubernetes.away_seconds",
        _positive,
        "60",
        "After how long away a cluster has failed, and others take its apps' shares.",
    ),
    Setting(
        "kubernetes.cache_volume",
        _optional_size,
        "",
        "Size of a volume for each project that keeps the cache mounts of its builds in Pods; empty: none.",
    ),
    Setting("kubernetes.cache_class", str, "", "Its storage class; empty: the cluster's default."),
    Setting("kubernetes.cache_shared", _switch, "off", "Pods of several nodes can share it (ReadWriteMany)."),
    Setting(
        "kubernetes.cluster", str, "", "Cluster of projects that are bound to none; default this machine."
    ),
    Setting("kubernetes.builds", _count, "20", "Builds in Pods that run at the same time."),
    Setting("kubernetes.server", str, "", "URL by which Pods reach this server; default its own."),
    Setting(
        "kubernetes.registry", str, "", "HOST:PORT by which nodes pull from it; default that of the URL."
    ),
    Setting("kubernetes.idle_workers", _whole, "0", "Pods kept ready for each project that builds."),
    Setting("kubernetes.idle_total", _count, "20", "Pods kept ready for all projects together, at most."),
    Setting("kubernetes.idle_seconds", _positive, "600", "How long one waits for a build."),
    Setting("kubernetes.egress", _networks, "0.0.0.0/0,::/0", "Networks that builds in Pods may reach."),
    Setting(
        "kubernetes.egress_except",
        _networks,
        "10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10",
        "Of these, those that they may not: clusters and machines beside them.",
    ),
    Setting("admin.password", str, "", "Of the user admin, made where there are no users yet.", secret=True),
    Setting("network.pool", str, "10.89.0.0/16", "Address range from which app networks are taken."),
    Setting("webhooks.local", _switch, "off", "Webhooks may lead to this machine itself."),
    Setting(
        "grace_seconds",
        _count,
        "5",
        "How long requests that are under way may go on when the server is stopped.",
    ),
    Setting("log.level", _choice("debug", "info", "warning", "error"), "info", "How much the server writes."),
)
_BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Settings:
    """The values in force. ``values`` has every name of ``SETTINGS``."""

    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def data(self) -> Path:
        return Path(self.values["data"])

    @property
    def run(self) -> Path:
        return Path(self.values["run"])

    @property
    def keys(self) -> Path:
        return Path(self.values["keys"] or self.data / "keys")

    @property
    def socket(self) -> Path:
        return self.run / "slipway.sock"

    @property
    def is_secure(self) -> bool:
        """Whether the listener speaks HTTPS."""
        return bool(self["tls.certificate"] or self["tls.key"] or self["tls.local_ca"])

    @property
    def url(self) -> str:
        return f"{'https' if self.is_secure else 'http'}://{self['listen']}"

    @property
    def pid_file(self) -> Path:
        return self.run / "slipway.pid"


def load(file: Path | None, environment: Mapping[str, str], flags: Sequence[str] = ()) -> Settings:
    """Defaults, then the file, then the environment, then ``NAME=VALUE`` flags.

    Raises ``Invalid`` for unknown names, malformed values and a named file that cannot be read.
    """
    texts = {setting.name: (setting.default, "the default") for setting in SETTINGS}
    texts |= _from_file(file)
    for setting in SETTINGS:
        if setting.variable in environment:
            texts[setting.name] = (environment[setting.variable], setting.variable)
    for flag in flags:
        name, sign, text = flag.partition("=")
        if not sign:
            raise Invalid(f"not NAME=VALUE: {flag!r}", hint="e.g. --set listen=127.0.0.1:7070")
        texts[_known(name, "--set")] = (text, "--set")
    return Settings({name: _parse(_BY_NAME[name], *text) for name, text in texts.items()})


def _parse(setting: Setting, text: str, origin: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        said = "…" if setting.secret else repr(text)
        raise Invalid(f"{setting.name} = {said} ({origin}): {error}", hint=setting.help) from error


def _from_file(file: Path | None) -> dict[str, tuple[str, str]]:
    path = file or DEFAULT_FILE
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        if file is None:
            return {}
        raise Invalid(f"the configuration {path} does not exist") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path}: {error}", hint="the file must be TOML") from error
    return {_known(name, str(path)): (text, str(path)) for name, text in _flatten(document)}


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        found += _flatten(value, f"{name}.") if isinstance(value, dict) else [(name, _text(value))]
    return found


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _known(name: str, origin: str) -> str:
    if name in _BY_NAME:
        return name
    close = get_close_matches(name, _BY_NAME, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"settings are {', '.join(_BY_NAME)}"
    raise Invalid(f"{origin}: unknown setting {name!r}", hint=hint)
