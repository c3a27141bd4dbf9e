"""Builds: start one, list, look at, read the log of, cancel."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli.events.plain import describe
from slipway.cli.secrets import read_secrets
from slipway.cli.session import Session, with_session
from slipway.cli.source import source_of
from slipway.wire import bodies


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in values)}


@click.command()
@click.argument("directory", default=".", type=click.Path(path_type=Path))
@click.option("--project", default="demo", show_default=True, envvar="SLIPWAY_PROJECT")
@click.option("-t", "--tag", "tags", multiple=True, help="NAME[:TAG] below the project; repeatable.")
@click.option("-f", "--file", "dockerfile", default="Dockerfile", show_default=True)
@click.option("--target", default=None, help="Build this stage only.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="id=NAME,src=FILE|env=VAR",
    help="For RUN --mount=type=secret.",
)
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option("--check", is_flag=True, help="Only run the build checks; exit code 1 if they find something.")
@with_session
def build(
    session: Session,
    directory: Path,
    project: str,
    tags: tuple[str, ...],
    dockerfile: str,
    target: str | None,
    args: tuple[str, ...],
    labels: tuple[str, ...],
    secrets: tuple[str, ...],
    no_cache: bool,
    check: bool,
) -> None:
    """Build the Dockerfile in DIRECTORY into the project's part of the registry."""
    wanted = [tag.partition(":") for tag in tags or (directory.resolve().name.lower(),)]
    request = bodies.BuildRequest(
        source=source_of(session.client, directory),
        name=wanted[0][0],
        tags=[tag or "latest" for _, _, tag in wanted],
        dockerfile=dockerfile,
        target=target,
        args=_pairs(args),
        labels=_pairs(labels),
        no_cache=no_cache,
        check=check,
        secrets=read_secrets(secrets),
    )
    result = session.follow(session.client.build(project, request))
    if check:
        found = result["findings"]
        if not session.json:
            click.echo(f"{len(found)} findings" if found else "the build checks find nothing")
        raise SystemExit(1 if found else 0)
    if not session.json:
        click.echo(f"{result['reference']}\n{result['digest']}")


@click.group()
def builds() -> None:
    """Build jobs and their logs."""


@builds.command("ls")
@click.option("--project", default="", help="Only this project's.")
@with_session
def builds_ls(session: Session, project: str) -> None:
    """List builds, newest first."""
    columns = ("id", "project", "app", "service", "state", "owner", "created", "image_digest")
    session.table(session.client.builds(project), columns)


@builds.command("show")
@click.argument("build_id")
@with_session
def builds_show(session: Session, build_id: str) -> None:
    """Show one build."""
    record = session.client.build_record(build_id)
    session.value(record, "\n".join(f"{key:13} {value}" for key, value in record.model_dump().items()))


@builds.command("logs")
@click.argument("build_id")
@click.option("-f", "--follow", is_flag=True)
@with_session
def builds_logs(session: Session, build_id: str, follow: bool) -> None:
    """Print a build's whole log."""
    for event in session.client.build_log(build_id, follow):
        line = describe(event)
        if session.json:
            click.echo(event)
        elif line is not None:
            click.echo(line)


@builds.command("cancel")
@click.argument("build_id")
@with_session
def builds_cancel(session: Session, build_id: str) -> None:
    """End a running build; its worker is gone within a second."""
    session.client.cancel_build(build_id)
    session.said(f"cancelled {build_id}", id=build_id, state="cancelled")


COMMANDS = [build, builds]
