"""Delivered apps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from slipway import wire
from slipway.cli.session import Session, with_session
from slipway.cli.source import source_of, variables_of
from slipway.client.transport import error_from
from slipway.errors import Invalid
from slipway.wire import bodies

_PROJECT = click.option("--project", default="demo", show_default=True, envvar="SLIPWAY_PROJECT")


@click.group()
def app() -> None:
    """Delivered apps: what runs, its releases, its logs."""


@app.command("ls")
@click.option("--project", default="", help="Only this project's.")
@with_session
def app_ls(session: Session, project: str) -> None:
    """List apps and where they answer."""
    found = session.client.apps(project)
    if session.json:
        click.echo(json.dumps([item.model_dump(mode="json") for item in found], indent=1))
        return
    for item in found:
        click.echo(f"{item.project}/{item.name}  release {item.release or '-'}  {item.state}")
        for service in item.services:
            urls = "  ".join(service.urls)
            click.echo(f"  {service.name:16} {service.ready}/{service.replicas} ready  {urls}".rstrip())


@app.command("show")
@click.argument("name")
@_PROJECT
@with_session
def app_show(session: Session, name: str, project: str) -> None:
    """Show one app with its instances, and the clusters it is on: their shares, and which of them is away."""
    found = session.client.app(project, name)
    if session.json:
        click.echo(found.model_dump_json(indent=1))
        return
    click.echo(f"{found.project}/{found.name}  release {found.release or '-'}  {found.state}")
    for place in found.clusters:
        click.echo(f"  on {place.name:13} {_on_cluster(place)}")
    for service in found.services:
        click.echo(f"  {service.name:16} {service.ready}/{service.replicas} ready  {service.image}")
        for url in service.urls:
            click.echo(f"    {url}")
        for instance in found.instances:
            if instance.service == service.name:
                health = f" {instance.health}" if instance.health else ""
                click.echo(
                    f"    {instance.id}  release {instance.release}  {instance.state}{health}"
                    f"  {instance.address}  restarts {instance.restarts}"
                    + (f"  on {instance.cluster}" if instance.cluster else "")
                )


def _on_cluster(place: wire.AppCluster) -> str:
    """What runs there, or why nothing does."""
    ready = ", ".join(f"{item.name} {item.ready}/{item.replicas}" for item in place.services)
    since = f" since {place.since[:19].replace('T', ' ')}: {place.reason}" if place.since else ""
    said = {
        "carries": f"weight {place.weight}: {ready}",
        "silent": f"does not answer{since}; it should have {ready}",
        "away": f"away{since}; its share is on the others",
        "leaving": "what is left there goes"
        if not place.reason
        else f"what is left there goes: {place.reason}",
        "data": "has data of its volumes that was left there",
    }
    return said.get(place.state, place.state)


@app.command("releases")
@click.argument("name")
@_PROJECT
@with_session
def app_releases(session: Session, name: str, project: str) -> None:
    """List an app's releases, newest first."""
    columns = ("number", "status", "created", "created_by", "source_revision", "digest", "error")
    session.table(session.client.releases(project, name), columns)


@app.command("rollback")
@click.argument("name")
@click.option("--to", type=int, default=None, help="Release number; default: the one before.")
@_PROJECT
@with_session
def app_rollback(session: Session, name: str, to: int | None, project: str) -> None:
    """Go back to an earlier release without losing a request."""
    result = session.follow(session.client.rollback(project, name, to))
    if not session.json:
        click.echo(f"{name}: release {result['release']} is serving")


@app.command("scale")
@click.argument("name")
@click.argument("replicas", nargs=-1, required=True, metavar="SERVICE=N…")
@_PROJECT
@with_session
def app_scale(session: Session, name: str, replicas: tuple[str, ...], project: str) -> None:
    """Set how many instances of services run."""
    wanted: dict[str, int] = {}
    for item in replicas:
        service, sign, count = item.partition("=")
        if not sign or not count.isdigit():
            raise Invalid(f"not SERVICE=N: {item!r}", hint="e.g. slipway app scale guestbook web=3")
        wanted[service] = int(count)
    session.follow(session.client.scale(project, name, wanted))
    if not session.json:
        click.echo(f"{name}: " + ", ".join(f"{service} {count}" for service, count in wanted.items()))


@app.command("move")
@click.argument("name")
@click.option("--to", required=True, metavar="CLUSTER", help="One of the clusters that its project uses.")
@click.option("--leave-data", is_flag=True, help="Even if it has volumes, whose data stays where it is.")
@_PROJECT
@with_session
def app_move(session: Session, name: str, to: str, leave_data: bool, project: str) -> None:
    """Take an app that is on one cluster to another: first up there, then down here.

    Only apps with volumes, and those that say x-slipway: {spread: false}, are on one cluster. Others are spread over
    all of the project's clusters by weight, and leave one that fails by themselves.
    """
    session.follow(session.client.move(project, name, to, leave_data))
    if not session.json:
        click.echo(f"{name}: is on {to}")


@app.command("restart")
@click.argument("name")
@click.argument("services", nargs=-1)
@_PROJECT
@with_session
def app_restart(session: Session, name: str, services: tuple[str, ...], project: str) -> None:
    """Restart an app's services, all by default."""
    session.follow(session.client.restart(project, name, services))
    if not session.json:
        click.echo(f"{name}: restarted")


@app.command("logs")
@click.argument("name")
@click.argument("service", default="")
@click.option("-f", "--follow", is_flag=True)
@click.option(
    "-n", "--tail", type=click.IntRange(0), default=None, help="Only the last N lines of each instance."
)
@_PROJECT
@with_session
def app_logs(session: Session, name: str, service: str, follow: bool, tail: int | None, project: str) -> None:
    """Print what an app's services wrote."""
    for event in session.client.app_logs(project, name, service, follow, tail):
        if event["event"] == "error":
            raise error_from(event)
        if session.json:
            click.echo(json.dumps(event))
        elif event["event"] == "log":
            click.echo(f"{event['instance']} | {event['text']}", err=event.get("stream") == "stderr")


@app.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name")
@click.argument("service")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND…")
@click.option(
    "--replica", type=click.IntRange(1), default=None, help="Of the service; default: any that runs."
)
@click.option("-T", "--no-tty", is_flag=True, help="No terminal, also where there is one.")
@click.option("-n", "--no-input", is_flag=True, help="Leave standard input alone.")
@_PROJECT
@with_session
def app_exec(
    session: Session, name: str, service: str, command: tuple[str, ...], replica: int | None, no_tty: bool,
    no_input: bool, project: str,
) -> None:  # fmt: skip
    """Run COMMAND in an instance of SERVICE, beside what it runs; its exit code is ours.

    slipway app exec guestbook db -- psql -U postgres < dump.sql
    """
    from slipway.cli.terminal import execute, has_terminal

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("a command is missing")
    terminal = not (no_tty or no_input) and has_terminal()
    where = (session.client, project, name, service, replica or 0)
    sys.exit(execute(*where, words, terminal=terminal, takes_input=not no_input))


@app.command("render")
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option("--app", default="", help="Name of the app; default: the Compose file's, or the directory's.")
@click.option("-f", "--file", "files", multiple=True, help="Compose file below DIRECTORY; several merge.")
@click.option("--profile", "profiles", multiple=True, help="Also the services of this profile.")
@click.option("--image", "images", multiple=True, metavar="SERVICE=IMAGE", help="Run this image.")
@_PROJECT
@with_session
def app_render(
    session: Session, directory: Path, app: str, files: tuple[str, ...], profiles: tuple[str, ...],
    images: tuple[str, ...], project: str,
) -> None:  # fmt: skip
    """Print the Kubernetes manifests of the app in DIRECTORY: `slipway app render | kubectl apply -f -`.

    Nothing is built and nothing is changed. Services that are built have the image of the release that serves.
    """
    chosen: dict[str, str] = {}
    for item in images:
        service, sign, image = item.partition("=")
        if not sign or not image:
            raise Invalid(f"not SERVICE=IMAGE: {item!r}", hint="e.g. --image web=registry.example/shop/web:1")
        chosen[service] = image
    request = bodies.Render(
        source=source_of(session.client, directory),
        files=list(files),
        app=app,
        variables=variables_of(directory, files),
        profiles=list(profiles),
        images=chosen,
    )
    found = session.client.render(project, request)
    if session.json:
        click.echo(json.dumps(found, indent=1))
        return
    import yaml

    click.echo(yaml.safe_dump_all(found, explicit_start=True, sort_keys=False), nl=False)


@app.command("rm")
@click.argument("name")
@click.option("--volumes", is_flag=True, help="Also delete its volumes and what is in them.")
@_PROJECT
@with_session
def app_rm(session: Session, name: str, volumes: bool, project: str) -> None:
    """Stop and remove an app; its volumes and images stay unless asked."""
    session.follow(session.client.remove_app(project, name, volumes))
    session.said(f"{name}: removed", removed=name)


COMMANDS = [app]
