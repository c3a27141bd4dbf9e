"""A Docker daemon that builds for a platform in a test: by its socket, over mutual TLS, and with a daemon inside."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.testing.peers import Docker
from slipway.testing.platform import Running, free_port
from slipway.testing.sandboxes import docker_tar

INNER = "inner:1"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running daemon. ``remote`` is its address over TLS, ``tls`` the directory of a client's certificates."""

    docker: Docker
    remote: str
    tls: Path


@contextmanager
def docker_daemon() -> Iterator[Daemon]:
    """A daemon with an image that has a daemon in it."""
    directory = Path("/var/tmp") / f"dk-{os.getpid()}"  # the path of a socket is short
    directory.mkdir()
    tls = directory / "tls"
    port = free_port()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, True)
        _certificates(tls)
        flags = [
            "-H", f"tcp://127.0.0.1:{port}", "--tlsverify", f"--tlscacert={tls}/ca.pem",
            f"--tlscert={tls}/server.pem", f"--tlskey={tls}/server-key.pem",
        ]  # fmt: skip
        daemon = Docker(directory, stack, *flags)
        with docker_tar().open("rb") as stream:
            words = ["docker", "-H", f"unix://{daemon.socket}", "import", "-", INNER]
            subprocess.run(words, stdin=stream, check=True, capture_output=True)
        yield Daemon(daemon, f"tcp://127.0.0.1:{port}", tls)


def add_builders(platform: Running, daemon: Daemon) -> None:
    """Builders of all three kinds, each called by its kind."""
    socket = f"unix://{daemon.docker.socket}"
    platform.command("builder", "add", "socket", "socket", "--address", socket)
    platform.command("builder", "add", "dind", "dind", "--address", socket, "--image", INNER)
    platform.command(
        "builder", "add", "remote", "remote", "--address", daemon.remote, "--tls", str(daemon.tls)
    )


def _certificates(directory: Path) -> None:
    """A certificate authority, and what a server and a client need of it."""
    directory.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        (directory / "extensions").write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl("req", *key, "-keyout", f"{name}-key.pem", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "extensions",
        )  # fmt: skip
    shutil.copy(directory / "client.pem", directory / "cert.pem")
    shutil.copy(directory / "client-key.pem", directory / "key.pem")
