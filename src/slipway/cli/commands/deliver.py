"""From a directory with a Compose file to a running app."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli.session import Session, with_session
from slipway.cli.source import source_of, variables_of
from slipway.wire import bodies


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option("--project", default="demo", show_default=True, envvar="SLIPWAY_PROJECT")
@click.option("--app", default="", help="Name of the app; default: the Compose file's, or the directory's.")
@click.option("-f", "--file", "files", multiple=True, help="Compose file below DIRECTORY; several merge.")
@click.option("--profile", "profiles", multiple=True, help="Also the services of this profile.")
@click.option("--no-cache", is_flag=True, help="Run every build step again.")
@with_session
def deliver(
    session: Session,
    directory: Path,
    project: str,
    app: str,
    files: tuple[str, ...],
    profiles: tuple[str, ...],
    no_cache: bool,
) -> None:
    """Build, store, release and run the app in DIRECTORY.

    Reads compose.yaml, builds every service that has a `build:`, puts the images into the registry, records a
    release, starts it next to the old one and switches over when it is healthy. Nothing changed: nothing is done.
    """
    request = bodies.Deliver(
        source=source_of(session.client, directory),
        files=list(files),
        app=app,
        variables=variables_of(directory, files),
        profiles=list(profiles),
        no_cache=no_cache,
    )
    result = session.follow(session.client.deliver(project, request))
    if not session.json:
        summary(result)


def summary(result: dict[str, object]) -> None:
    """What the delivery came to: the release, the addresses, the time."""
    if result.get("unchanged"):
        click.echo(f"{result['app']}: nothing changed, release {result['release']} keeps running")
    else:
        click.echo(f"{result['app']}: release {result['release']} is serving")
    urls = result.get("urls")
    for url in urls if isinstance(urls, list) else []:
        click.echo(f"  {url}")
    timings = result.get("timings")
    if isinstance(timings, dict) and timings:
        click.echo("  " + ", ".join(f"{name} {value:.1f}s" for name, value in timings.items()))


COMMANDS = [deliver]
