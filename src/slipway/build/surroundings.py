"""What a host adds to every RUN, and no image keeps: its proxies and its own certificate authorities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway.build.sandbox import SmallFile, StepMount
from slipway.errors import Invalid
from slipway.snapshots import RootView

BUNDLE = "/run/slipway/ca-certificates.crt"
_APT = "etc/apt/apt.conf.d"
_BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem", "etc/ssl/ca-bundle.pem",
)  # fmt: skip
# What OpenSSL, curl, Python, Node, git and the clouds' tools ask for; each takes the whole bundle.
_VARIABLES = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO",
)  # fmt: skip
_MAX_BUNDLE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Surroundings:
    """``certificates`` is PEM text; ``proxies`` are variables in both cases, as programs look for either."""

    certificates: bytes = b""
    proxies: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, ca_bundle: str, http: str, https: str, no: str) -> Surroundings:
        """From the server's settings. Raises ``Invalid`` for a bundle that is none."""
        given = {"http_proxy": http, "https_proxy": https, "no_proxy": no}
        proxies = {name: value for name, value in given.items() if value}
        proxies |= {name.upper(): value for name, value in proxies.items()}
        return cls(_read(Path(ca_bundle)) if ca_bundle else b"", proxies)

    def env(self) -> dict[str, str]:
        """Variables for a step; what the image or the Dockerfile says comes before them."""
        return {**self.proxies, **(dict.fromkeys(_VARIABLES, BUNDLE) if self.certificates else {})}

    def mounts(self, root: RootView) -> list[StepMount]:
        """Files for a step: the image's own authorities with the host's, beside the image's file, not over it.

        A package that renews its own file by renaming would fail on a mount.
        """
        if not self.certificates:
            return []
        own = next((data for path in _BUNDLES if (data := root.read(path, _MAX_BUNDLE))), b"")
        files: list[StepMount] = [SmallFile(BUNDLE, own.rstrip() + b"\n" + self.certificates, 0o444)]
        if root.resolve(_APT) is not None:
            text = f'Acquire::https::CAInfo "{BUNDLE}";\n'
            files.append(SmallFile(f"/{_APT}/99slipway-certificates", text.encode(), 0o444))
        return files


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid(f"build.ca_bundle: {path} cannot be read: {error.strerror}") from error
    if b"-----BEGIN CERTIFICATE-----" not in data or len(data) > _MAX_BUNDLE:
        raise Invalid(f"build.ca_bundle: {path} holds no PEM certificates")
    return data
