"""Builds: start one, list, look at, read the log of, cancel."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slipway.cli.caches import cache_source, cache_target
from slipway.cli.events.plain import describe, explained
from slipway.cli.secrets import read_agents, read_secrets
from slipway.cli.session import Session, with_session
from slipway.cli.sizes import size_of
from slipway.cli.source import is_repository, read_contexts, source_of, standard_input
from slipway.client import Client
from slipway.errors import Invalid
from slipway.wire import bodies

if TYPE_CHECKING:
    from slipway.cli.outputs import Output

_FOREVER, _UNLIMITED = 36500.0, 1 << 60


def _pairs(values: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in values)}


@click.command()
@click.argument("context", default=".")
@click.option("--project", default="demo", show_default=True, envvar="SLIPWAY_PROJECT")
@click.option("-t", "--tag", "tags", multiple=True, help="NAME[:TAG] below the project; repeatable.")
@click.option(
    "-f", "--file", "dockerfile", default="Dockerfile", show_default=True, help="- is standard input."
)
@click.option("--target", default=None, help="Build this stage only.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--build-context", "contexts", multiple=True, metavar="NAME=DIR|docker-image://IMAGE|oci-layout://PATH|REPOSITORY",
    help="A further context, for --from=NAME and FROM NAME.",
)  # fmt: skip
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="id=NAME,src=FILE|env=VAR",
    help="For RUN --mount=type=secret.",
)
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option(
    "--no-cache-filter", "filters", multiple=True, metavar="STAGE", help="Run this stage's steps again; repeatable."
)  # fmt: skip
@click.option("--pull", is_flag=True, help="Ask other registries whether the base images have changed.")
@click.option(
    "--priority", type=click.Choice(["low", "normal", "high"]), default="normal", show_default=True,
    help="Before or after the project's other builds; high is for its admins.",
)  # fmt: skip
@click.option(
    "--builder", default="", metavar="NAME", help="Let a Pod (kubernetes) or a Docker daemon build: `slipway builder`."
)  # fmt: skip
@click.option(
    "--platform", "platforms", multiple=True, metavar="OS/ARCH[,…]", help="Build for these; several make an index."
)  # fmt: skip
@click.option(
    "-o", "--output", "outputs", multiple=True, metavar="DIR|-|type=…",
    help="Besides or (without -t) instead of the registry: a directory, - for a tar of the root, or "
    "type=oci|docker|tar|local,dest=PATH or type=registry,name=HOST/NAME:TAG.",
)  # fmt: skip
@click.option(
    "--cache-from", "sources", multiple=True, metavar="PROJECT/NAME:TAG|HOST/NAME:TAG",
    help="Use what another build left there with --cache-to; repeatable.",
)  # fmt: skip
@click.option(
    "--cache-to", "targets", multiple=True, metavar="REF|ref=REF[,mode=min][,mounts=no]",
    help="Keep every step's result and the cache mounts there; mode=min: only the layers of the image.",
)  # fmt: skip
@click.option(
    "--registry-login", "hosts", multiple=True, metavar="HOST",
    help="Let this build pull from HOST with your login of docker or podman.",
)  # fmt: skip
@click.option(
    "--ssh", "agents", multiple=True, metavar="ID[=SOCKET][,KEY.pub…]",
    help="An SSH agent of this machine, for RUN --mount=type=ssh; of it only the keys that are named, if any are.",
)  # fmt: skip
@click.option(
    "--explain", is_flag=True, help="Say of every step that had to run what was different this time."
)
@click.option("--check", is_flag=True, help="Only run the build checks; exit code 1 if they find something.")
@with_session
def build(
    session: Session,
    context: str,
    project: str,
    tags: tuple[str, ...],
    dockerfile: str,
    target: str | None,
    args: tuple[str, ...],
    contexts: tuple[str, ...],
    labels: tuple[str, ...],
    secrets: tuple[str, ...],
    no_cache: bool,
    filters: tuple[str, ...],
    pull: bool,
    priority: str,
    builder: str,
    platforms: tuple[str, ...],
    outputs: tuple[str, ...],
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    hosts: tuple[str, ...],
    agents: tuple[str, ...],
    explain: bool,
    check: bool,
) -> None:
    """Build CONTEXT into the project's part of the registry.

    CONTEXT is a directory with a Dockerfile, the address of a git repository (with #REF:SUBDIRECTORY), or - for a tar
    or a Dockerfile on standard input.
    """
    places = _places(outputs)
    if sum(item.dest == "-" for item in places) > 1:
        raise Invalid("only one output can be standard output")
    forwarded = read_agents(agents)
    source, inline = _source(session.client, context, dockerfile)
    wanted = [tag.partition(":") for tag in tags or (_name(context),)]
    request = bodies.BuildRequest(
        source=source,
        name=wanted[0][0],
        tags=[tag or "latest" for _, _, tag in wanted] if tags or not places else [],
        dockerfile=dockerfile,
        inline=inline,
        contexts=read_contexts(session.client, contexts),
        target=target,
        args=_time() | _pairs(args),
        labels=_pairs(labels),
        no_cache=no_cache,
        no_cache_filter=[name for item in filters for name in item.split(",")],
        pull=pull,
        priority=priority,
        builder=builder,
        platforms=[name for item in platforms for name in item.split(",")],
        logins=_logins(hosts),
        cache_from=[cache_source(item) for item in sources],
        cache_to=[cache_target(item) for item in targets],
        ssh=list(forwarded),
        check=check,
        secrets=read_secrets(secrets),
    )
    events = session.client.build(project, request)
    if forwarded:
        from slipway.client.ssh_agent import answering

        events = answering(session.client, events, forwarded)
    piped = any(item.dest == "-" for item in places)
    result = session.follow(explained(events) if explain else events, aside=piped)
    if check:
        found = result["findings"]
        if not session.json:
            click.echo(f"{len(found)} findings" if found else "the build checks find nothing")
        raise SystemExit(1 if found else 0)
    repository = result["reference"].rpartition(":")[0] if request["tags"] else result["reference"]
    for place in places:
        image = result["reference"] if request["tags"] else f"{repository}@{result['digest']}"
        place.write(session, image)
    if not session.json and not piped:
        click.echo(f"{result['reference']}\n{result['digest']}")


def _places(outputs: tuple[str, ...]) -> list[Output]:
    if not outputs:
        return []
    from slipway.cli.outputs import Output

    return [Output.parse(item) for item in outputs]


def _logins(hosts: tuple[str, ...]) -> dict[str, dict[str, str]]:
    if not hosts:
        return {}
    from slipway.cli.logins import read_logins

    return read_logins(hosts)


def _time() -> dict[str, str]:
    """The time an image is to have, as every reproducible build is told it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return {"SOURCE_DATE_EPOCH": epoch} if epoch else {}


def _source(client: Client, context: str, dockerfile: str) -> tuple[bodies.Source, str | None]:
    """Where the source is, and the Dockerfile's text if it does not lie in there."""
    if context == "-":
        if dockerfile == "-":
            raise Invalid("standard input cannot be both the context and the Dockerfile")
        return standard_input(client)
    inline = sys.stdin.buffer.read().decode(errors="surrogateescape") if dockerfile == "-" else None
    if is_repository(context):
        return bodies.Source(git=context), inline
    return source_of(client, Path(context)), inline


def _name(context: str) -> str:
    """What an image is called that nobody named: as the directory, or as the repository."""
    if context == "-":
        raise Invalid("name the image", hint="-t NAME[:TAG]")
    address = context.partition("#")[0].rstrip("/").removesuffix(".git")
    name = address if is_repository(context) else str(Path(context).resolve())
    return name.rpartition("/")[2].rpartition(":")[2].lower()


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
            click.echo(json.dumps(event))
        elif line is not None:
            click.echo(line)


@builds.command("cancel")
@click.argument("build_id")
@with_session
def builds_cancel(session: Session, build_id: str) -> None:
    """End a running build; its worker is gone within a second."""
    session.client.cancel_build(build_id)
    session.said(f"cancelled {build_id}", id=build_id, state="cancelled")


@builds.command("prune")
@click.option(
    "--older-than", "days", type=click.FloatRange(0), metavar="DAYS", help="Forget what nobody used since."
)
@click.option("--keep-storage", "keep", metavar="SIZE", help="Of the rest keep this much, e.g. 10g.")
@click.option("--all", "everything", is_flag=True, help="Keep nothing that no image needs.")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@with_session
def builds_prune(
    session: Session, days: float | None, keep: str | None, everything: bool, dry_run: bool
) -> None:
    """Shrink the build cache. What images, containers or running builds need stays."""
    if not everything and days is None and keep is None:
        raise Invalid("say what to prune", hint="--older-than DAYS, --keep-storage SIZE or --all")
    size = 0 if everything else size_of(keep) if keep else _UNLIMITED
    done = session.client.prune_builds(0 if everything else _FOREVER if days is None else days, size, dry_run)
    kinds = ", ".join(f"{count} {kind}" for kind, count in done.counts.items() if count) or "nothing"
    verb = "would remove" if dry_run else "removed"
    session.value(done, f"{verb} {kinds} ({done.bytes / (1 << 20):.1f} MiB)")


COMMANDS = [build, builds]
