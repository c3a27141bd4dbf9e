"""Kubernetes clusters."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from slipway import wire
from slipway.cli.events.plain import size
from slipway.cli.session import Session, with_session
from slipway.client.kubeconfig import portable
from slipway.errors import Invalid


@click.group()
def cluster() -> None:
    """Kubernetes clusters, where one machine is not enough.

    \b
    Add one            slipway cluster add east --kubeconfig ~/.kube/config --context east
    Let a project in   slipway cluster bind east --project shop
    Spread over two    slipway cluster bind east --project shop --weight 3
                       slipway cluster bind west --project shop --weight 1
    Empty one          slipway cluster bind west --project shop --weight 0

    Apps without volumes are spread over the clusters of their project: each has every service, with its share of the
    instances. An app with volumes is on one cluster; slipway app move takes it to another.
    """


@cluster.command("add")
@click.argument("name")
@click.option(
    "--kubeconfig", "file", default="", envvar="KUBECONFIG", show_envvar=True, metavar="FILE",
    help="How to get there; - reads it from standard input.",
)  # fmt: skip
@click.option("--context", default="", help="Which of its contexts; by default the current one.")
@click.option(
    "--in-cluster", is_flag=True, help="The cluster that the server itself runs in, by its own account."
)
@click.option(
    "--namespace-prefix",
    "prefix",
    default="slipway-",
    show_default=True,
    help="Of the namespaces of apps; another one for another Slipway on the same cluster.",
)
@with_session
def cluster_add(session: Session, name: str, file: str, context: str, in_cluster: bool, prefix: str) -> None:
    """Add a cluster, after looking at it with the credentials of a kubeconfig.

    Files that it names are put into what is sent, other contexts are left out, and it is stored encrypted. Its
    account has to be one by token or certificate: a program that asks for credentials would not run on the server.
    """
    if in_cluster:
        request = wire.NewCluster(name=name, in_cluster=True, namespace_prefix=prefix)
    else:
        if not file:
            raise Invalid("which cluster?", hint="--kubeconfig FILE, or --in-cluster for that of the server")
        text, directory = _read(file)
        kubeconfig = portable(text, context, directory)
        request = wire.NewCluster(name=name, kubeconfig=kubeconfig, namespace_prefix=prefix)
    found = session.client.clusters.add(request)
    _show(session, found, f"added the cluster {name} (slipway cluster bind {name} --project …)")


@cluster.command("ls")
@with_session
def cluster_ls(session: Session) -> None:
    """List the clusters and how they are."""
    found = session.client.clusters.all()
    if session.json:
        session.table(found, ())
        return
    rows = [
        (
            item.name, item.state, item.version, f"{item.nodes_ready}/{item.nodes_total}", f"{item.usable.cpus:g}",
            size(item.usable.memory), ",".join(bound.project for bound in item.projects) or "-", item.server,
        )
        for item in found
    ]  # fmt: skip
    session.rows(("name", "state", "version", "nodes", "cpus", "memory", "projects", "server"), rows)


@cluster.command("show")
@click.argument("name")
@with_session
def cluster_show(session: Session, name: str) -> None:
    """Show one cluster: its nodes, what they have, what troubles them, which projects use it."""
    _show(session, session.client.clusters.show(name))


@cluster.command("rm")
@click.argument("name")
@click.option(
    "--force", is_flag=True, help="Even while projects use it. What runs there stays, unseen by Slipway."
)
@with_session
def cluster_rm(session: Session, name: str, force: bool) -> None:
    """Forget a cluster and its credentials. Nothing in it is touched."""
    session.client.clusters.remove(name, force=force)
    session.said(f"removed the cluster {name}", removed=name)


@cluster.command("bind")
@click.argument("name")
@click.option("--project", required=True)
@click.option(
    "--weight", type=click.IntRange(0, 1000), default=1, show_default=True,
    help="Its share of what the project runs, beside other clusters; 0 gets nothing new, and gives its shares away.",
)  # fmt: skip
@with_session
def cluster_bind(session: Session, name: str, project: str, weight: int) -> None:
    """Let a project use a cluster, or change its weight. Instances move to their new shares without a gap."""
    bound = session.client.clusters.bind(name, project, weight)
    session.said(f"{project} uses {name} with weight {weight}", **bound.model_dump())


@cluster.command("unbind")
@click.argument("name")
@click.option("--project", required=True)
@with_session
def cluster_unbind(session: Session, name: str, project: str) -> None:
    """End a project's use of a cluster.

    Its shares of apps go to the project's other clusters. Apps with volumes, and apps that have no other cluster to go
    to, stay there until they are moved or removed.
    """
    session.client.clusters.unbind(name, project)
    session.said(f"{project} no longer uses {name}", cluster=name, unbound=project)


def _read(file: str) -> tuple[str, Path]:
    if file == "-":
        return sys.stdin.read(), Path.cwd()
    path = Path(file).expanduser()
    try:
        return path.read_text(), path.absolute().parent
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise Invalid(f"the kubeconfig {file} cannot be read: {said}") from error


def _show(session: Session, found: wire.ClusterDetail, said: str = "") -> None:
    usable = found.usable
    projects = ", ".join(f"{item.project} (weight {item.weight})" for item in found.projects)
    lines = [said] if said else []
    lines += [
        f"{found.name}: Kubernetes {found.version} at {found.server}",
        f"state      {found.state}{f': {found.error}' if found.error else ''}",
        f"nodes      {found.nodes_ready} of {found.nodes_total} ready",
        f"usable     {usable.cpus:g} cpus, {size(usable.memory)} memory, {size(usable.disk)} disk, {usable.pods} pods",
        f"projects   {projects or 'none yet'}",
        f"namespaces {found.namespace_prefix}PROJECT",
        *(f"warning    {text}" for text in found.warnings),
        *(_node(node) for node in found.nodes),
    ]
    session.value(found, "\n".join(lines))


def _node(node: wire.ClusterNode) -> str:
    state = ["ready" if node.ready else f"not ready: {node.reason}"]
    state += ["cordoned"] if node.cordoned else []
    state += [f"{kind} pressure" for kind in node.pressure]
    has, of = node.allocatable, node.capacity
    return (
        f"node       {node.name} ({', '.join(node.roles) or 'worker'}): {', '.join(state)}\n"
        f"           {has.cpus:g} of {of.cpus:g} cpus, {size(has.memory)} of {size(of.memory)}, {has.pods} pods; "
        f"{node.version}, {node.runtime}, {node.platform}, {node.kernel}"
    )


COMMANDS = [cluster]
