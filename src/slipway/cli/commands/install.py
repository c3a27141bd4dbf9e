"""Putting the platform itself on a cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from slipway.cli.commands.server import become
from slipway.cli.session import Session, with_session
from slipway.errors import Invalid
from slipway.install import (
    CLUSTER_WIDE,
    VALUES,
    as_yaml,
    documents,
    policy_version,
    read_values,
    write_chart,
)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HELP = "\b\nValues:\n" + "\n".join(f"  {value.name:20} {value.help} [{value.default}]" for value in VALUES)


@click.group()
def install() -> None:
    """Put the platform itself on a Kubernetes cluster.

    \b
      slipway install image               make the platform's image, in the running server's registry
      slipway install keys DIR            make the keys that its servers share
      slipway install kubernetes          print manifests for `kubectl apply -f -`
      slipway install chart DIR           write the same as a Helm chart
    """


@install.command(epilog=_HELP)
@click.option("--namespace", default="slipway", show_default=True)
@click.option("--values", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="YAML file.")
@click.option("--set", "flags", multiple=True, metavar="NAME=VALUE", help="One value; may be repeated.")
@click.option("--kubernetes", "version", default="1.25", show_default=True, help="The cluster's version.")
@with_session
def kubernetes(
    session: Session, namespace: str, values: Path | None, flags: tuple[str, ...], version: str
) -> None:
    """Print the manifests of the platform: API servers and registries over one PostgreSQL and one bucket.

    \b
    Three Secrets are yours to make, since they are nobody else's business:
      kubectl -n slipway create secret generic slipway-admin --from-literal=password=…
      kubectl -n slipway create secret generic slipway-keys --from-file=DIR      (slipway install keys DIR)
      kubectl -n slipway create secret generic slipway-settings \\
        --from-literal=SLIPWAY_DATABASE_URL=postgresql://… --from-literal=SLIPWAY_STORAGE_URL=s3://…
    """
    if not _NAME.fullmatch(namespace):
        raise Invalid(f"not a namespace: {namespace[:100]!r}", hint="small letters, digits and dashes")
    given = read_values(values.read_text() if values else "", flags)
    policy = policy_version(version)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    found = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        *(
            item.object
            for item in documents(given.__getitem__, policy=policy, namespace=namespace)
            if item.is_wanted(given.__getitem__)
        ),
    ]
    for item in found:
        if item["kind"] not in CLUSTER_WIDE:
            item["metadata"]["namespace"] = namespace
    click.echo(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": found}) if session.json else as_yaml(found)
    )


@install.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@with_session
def chart(session: Session, directory: Path) -> None:
    """Write a Helm chart of the platform into DIRECTORY.

    \b
      slipway install chart slipway-chart
      helm install slipway slipway-chart -n slipway --create-namespace --set image=…
    """
    found = write_chart(directory)
    session.said(f"the chart is in {directory}", files=[str(path) for path in found])


@install.command()
@with_session
def image(session: Session) -> None:
    """Make the platform's own image, of the packages that the running server stands on.

    It is in that server's registry then, for the cluster's nodes to pull: --set image=HOST:PORT/REFERENCE.
    """
    result = session.follow(session.client.platform_image())
    if not session.json:
        click.echo(f"{result['reference']}@{result['digest']}")


@install.command()
@click.argument("directory", type=click.Path(file_okay=False, resolve_path=True))
@with_session
def keys(session: Session, directory: str) -> None:
    """Make the keys that the platform's servers share: who has them can write logins and open stored secrets.

    What is in DIRECTORY already stays.
    """
    become("keys", directory, *(["--output", "json"] if session.json else []))


COMMANDS = [install]
