"""Who builds besides the server's own workers: Docker daemons, and Pods of clusters."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from slipway import wire
from slipway.cli.session import Session, with_session


@click.group()
def builder() -> None:
    """Pods of a cluster to build with, and Docker daemons, for teams that come from them.

    Without --builder every build has an isolated worker of its own on the server; `--builder kubernetes` needs nothing
    here where the project is bound to a cluster. docs/builders.md compares the five.
    """


@builder.command("ls")
@with_session
def builder_ls(session: Session) -> None:
    """List them."""
    session.table(session.client.builders(), ("name", "kind", "address", "image", "projects"))


@builder.command("add")
@click.argument("name")
@click.argument("kind", type=click.Choice(["kubernetes", "remote", "socket", "dind"]))
@click.option(
    "--address", default="unix:///var/run/docker.sock", show_default=True,
    help="The daemon: unix:///PATH, or for a remote one tcp://HOST:2376.",
)  # fmt: skip
@click.option("--tls", default="", metavar="DIR", help="On the server: ca.pem, cert.pem and key.pem.")
@click.option("--image", default="", help="What dind starts, e.g. docker:dind; a Pod has one of ours.")
@click.option("--cluster", default="", help="Where its Pods are; by default on the project's own cluster.")
@click.option(
    "--pod",
    is_flag=True,
    help="Let a Pod use the daemon: its node's, one beside it (dind), or the remote one.",
)
@click.option("--project", "projects", multiple=True, help="Only these projects may use it; repeatable.")
@with_session
def builder_add(
    session: Session, name: str, kind: str, address: str, tls: str, image: str, cluster: str, pod: bool,
    projects: tuple[str, ...],
) -> None:  # fmt: skip
    """Add a builder: Pods of a cluster, a remote daemon, this node's socket, or Docker in Docker.

    Whoever may build with a daemon can do on its machine what that can: give it to projects you trust with that. With
    --pod or --cluster the daemon is a Pod's: dind starts one in a privileged container beside the worker, of an image
    of Slipway's own if none is named; socket is the one of the node that the Pod is on.
    """
    if kind == "kubernetes":
        address = cluster
    elif pod or cluster:
        address = _in_pod(cluster, "" if kind == "dind" else address)
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


def _in_pod(cluster: str, daemon: str) -> str:
    """See ``wire.Builder.address``."""
    return f"kubernetes://{cluster}" + (f"?{urlencode({'daemon': daemon})}" if daemon else "")


@builder.command("image")
@with_session
def builder_image(session: Session) -> None:
    """Make the image of workers in Pods now, not with the first build that needs it.

    It is made of the server's own packages, on a small Debian that is made from packages once.
    """
    result = session.follow(session.client.worker_image())
    if not session.json:
        click.echo(f"{result['reference']}@{result['digest']}")


@builder.command("rm")
@click.argument("name")
@with_session
def builder_rm(session: Session, name: str) -> None:
    """Remove a builder; its daemon is left as it is."""
    session.client.remove_builder(name)
    session.said(f"removed the builder {name}", removed=name)


COMMANDS = [builder]
