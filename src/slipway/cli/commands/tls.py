"""What clients have to trust."""

from __future__ import annotations

import click

from slipway.cli.session import Session, with_session


@click.group()
def tls() -> None:
    """The server's certificate."""


@tls.command("ca")
@with_session
def tls_ca(session: Session) -> None:
    """Print the certificate of the server's authority (its own by tls.local_ca, the site's by tls.ca), as PEM.

    \b
    For docker:            slipway tls ca > /etc/docker/certs.d/HOST:PORT/ca.crt
    For podman and skopeo: slipway tls ca > /etc/containers/certs.d/HOST:PORT/ca.crt
    For slipway:           slipway login https://HOST:PORT -u NAME --ca FILE
    """
    found = session.client.authority()
    session.value(found, found.certificate.rstrip())


COMMANDS = [tls]
