"""A builder as it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from slipway.errors import Invalid

KUBERNETES = "kubernetes"
KINDS = ("remote", "socket", "dind", KUBERNETES)
OWN = "slipway"


@dataclass(frozen=True, slots=True)
class BuilderRecord:
    """``address``: ``unix:///path``, ``tcp://host:port`` (for ``dind``: the outer daemon's); for ``kubernetes`` a
    cluster's name, empty for the project's own; for a daemon that is used by a Pod ``kubernetes://CLUSTER?daemon=`` and
    its address there. ``tls`` is a directory of ca.pem, cert.pem and key.pem on the server. ``image`` is what ``dind``
    starts; a Pod needs none, since there is one of ours. Without ``projects`` all may use it.
    """

    name: str
    kind: str
    address: str
    tls: str = ""
    image: str = ""
    projects: tuple[str, ...] = ()

    def checked(self) -> BuilderRecord:
        """Itself. Raises ``Invalid``."""
        scheme = urlsplit(self.address).scheme
        if not self.name.replace("-", "").isalnum() or self.name == OWN:
            raise Invalid(f"not a name for a builder: {self.name[:60]!r}", hint="letters, digits and '-'")
        if self.kind not in KINDS:
            raise Invalid(f"not a kind of builder: {self.kind[:40]!r}", hint=f"one of {', '.join(KINDS)}")
        if self.kind == KUBERNETES:
            if self.address and not self.address.replace("-", "").isalnum():
                raise Invalid(f"not the name of a cluster: {self.address[:60]!r}")
            return self
        if scheme == KUBERNETES:
            return self._checked_in_pod()
        if scheme not in ("unix", "tcp") or (self.kind != "remote" and scheme != "unix"):
            raise Invalid(
                f"not an address for a {self.kind} builder: {self.address[:100]!r}",
                hint="unix:///var/run/docker.sock, or for a remote one tcp://HOST:2376",
            )
        if self.kind == "dind" and not self.image:
            raise Invalid("Docker in Docker needs the image to start", hint="--image docker:dind")
        return self

    @property
    def in_pod(self) -> bool:
        """Whether its builds are Pods."""
        return self.kind == KUBERNETES or urlsplit(self.address).scheme == KUBERNETES

    @property
    def is_local(self) -> bool:
        """Whether its builds are on the server's own machine."""
        return not self.in_pod and urlsplit(self.address).scheme == "unix"

    @property
    def cluster(self) -> str:
        """Where its Pods are; empty: the project's own."""
        if self.kind == KUBERNETES:
            return self.address
        return urlsplit(self.address).netloc if self.in_pod else ""

    @property
    def daemon(self) -> str:
        """The daemon's address, as whoever builds has it; empty for one that is started for it."""
        if not self.in_pod:
            return self.address
        return dict(parse_qsl(urlsplit(self.address).query)).get("daemon", "")

    def _checked_in_pod(self) -> BuilderRecord:
        scheme = urlsplit(self.daemon).scheme
        if self.cluster and not self.cluster.replace("-", "").isalnum():
            raise Invalid(f"not the name of a cluster: {self.cluster[:60]!r}")
        if (self.kind == "remote" and scheme != "tcp") or (self.kind == "socket" and scheme != "unix"):
            raise Invalid(
                f"not an address for a {self.kind} builder in a Pod: {self.daemon[:100]!r}",
                hint="socket: unix:///var/run/docker.sock of the node; remote: tcp://HOST:2376",
            )
        if self.kind != "remote" and not self.projects:
            raise Invalid(
                f"a {self.kind} builder in a Pod is root on the node it runs on: name the projects that may use it",
                hint="--project NAME",
            )
        return self


def address_in_pod(cluster: str, daemon: str) -> str:
    """How a record says that a daemon is used by a Pod of ``cluster`` (empty: the project's own)."""
    return f"{KUBERNETES}://{cluster}" + (f"?{urlencode({'daemon': daemon})}" if daemon else "")
