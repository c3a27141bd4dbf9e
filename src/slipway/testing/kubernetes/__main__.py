"""The test cluster by hand."""

from __future__ import annotations

import sys

import click

from slipway.errors import SlipwayError
from slipway.testing.kubernetes.binaries import binaries
from slipway.testing.kubernetes.cluster import LocalCluster


@click.group(help="A Kubernetes cluster of several nodes on this machine.")
def main() -> None:
    pass


@main.command()
def build() -> None:
    """Compile Kubernetes, unless that was done."""
    click.echo(binaries())


@main.command()
@click.option("--nodes", default=3, show_default=True, help="At least so many.")
def up(nodes: int) -> None:
    """Have it running, and print the path of its kubeconfig."""
    cluster = LocalCluster()
    cluster.up(nodes)
    click.echo(cluster.kubeconfig)


@main.command()
def down() -> None:
    """Remove it."""
    LocalCluster().down()


@main.command()
def kubeconfig() -> None:
    """Print the path of its kubeconfig."""
    click.echo(LocalCluster().kubeconfig)


@main.command("kill")
@click.argument("node")
def kill_node(node: str) -> None:
    """Cut the power of NODE."""
    LocalCluster().kill_node(node)


@main.command("start")
@click.argument("node")
def start_node(node: str) -> None:
    """Switch NODE on again."""
    LocalCluster().start_node(node)


if __name__ == "__main__":
    try:
        main(prog_name="python -m slipway.testing.kubernetes")
    except SlipwayError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
