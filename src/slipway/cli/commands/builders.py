"""Docker daemons that build for those who ask for them."""

from __future__ import annotations

import click

from slipway import wire
from slipway.cli.session import Session, with_session


@click.group()
def builder() -> None:
    """Docker daemons to build with, for teams that come from them.

    Without --builder every build has an isolated worker of its own; docs/builders.md compares the four.
    """


@builder.command("ls")
@with_session
def builder_ls(session: Session) -> None:
    """List them."""
    session.table(session.client.builders(), ("name", "kind", "address", "image", "projects"))


@builder.command("add")
@click.argument("name")
@click.argument("kind", type=click.Choice(["remote", "socket", "dind"]))
@click.option(
    "--address", default="unix:///var/run/docker.sock", show_default=True,
    help="The daemon: unix:///PATH, or for a remote one tcp://HOST:2376.",
)  # fmt: skip
@click.option("--tls", default="", metavar="DIR", help="On the server: ca.pem, cert.pem and key.pem.")
@click.option("--image", default="", help="What dind starts, e.g. docker:dind.")
@click.option("--project", "projects", multiple=True, help="Only these projects may use it; repeatable.")
@with_session
def builder_add(
    session: Session, name: str, kind: str, address: str, tls: str, image: str, projects: tuple[str, ...]
) -> None:
    """Add a builder: a remote daemon, this node's socket, or Docker in Docker.

    Whoever may build with one can do on that machine what its daemon can: give it to projects you trust with that.
    """
    request = wire.Builder.model_validate(
        {
            "name": name,
            "kind": kind,
            "address": address,
            "tls": tls,
            "image": image,
            "projects": list(projects),
        }
    )
    session.client.add_builder(request)
    session.said(f"added the builder {name}", builder=name)


@builder.command("rm")
@click.argument("name")
@with_session
def builder_rm(session: Session, name: str) -> None:
    """Remove a builder; its daemon is left as it is."""
    session.client.remove_builder(name)
    session.said(f"removed the builder {name}", removed=name)


COMMANDS = [builder]
