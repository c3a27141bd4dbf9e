"""Images in the registry."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import click

from slipway import wire
from slipway.cli.events.plain import size
from slipway.cli.outputs import Output, push
from slipway.cli.session import Session, with_session

_LEVELS = ("critical", "high", "medium", "low", "unknown")


@click.group()
def image() -> None:
    """Images in the registry."""


@image.command("ls")
@click.option("--project", default="", help="Only this project's.")
@with_session
def image_ls(session: Session, project: str) -> None:
    """List tagged images."""
    session.table(session.client.images(project), ("repository", "tag", "digest", "size", "updated"))


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000))
@with_session
def search(session: Session, words: tuple[str, ...], limit: int) -> None:
    """Find repositories and projects by name, description and labels; only those you may pull from."""
    session.table(
        session.client.search(*words, limit=limit),
        ("project", "repository", "tags", "updated", "description"),
    )


@image.command("inspect")
@click.argument("reference")
@with_session
def image_inspect(session: Session, reference: str) -> None:
    """Show one image: configuration, layers, history. REFERENCE is PROJECT/NAME[:TAG|@DIGEST]."""
    found = session.client.image(reference)
    lines = [
        found.reference,
        f"digest    {found.digest}",
        f"tags      {', '.join(found.tags)}",
        f"platform  {found.platform}",
        f"created   {found.created or '-'}",
        f"size      {size(found.size)} in {len(found.layers)} layers",
        *(f"{key:9} {value}" for key, value in found.config.items()),
        f"signed    {'yes, by the project' if found.signed else 'no'}",
        *_made(found.provenance),
        *([f"packages  {_counted(found.packages)}"] if found.packages is not None else []),
        *(f"referrer  {kind}" for kind in found.referrers),
    ]
    session.value(found, "\n".join(lines))


def _made(provenance: dict[str, Any] | None) -> list[str]:
    """The lines of a SLSA provenance that a person asks for first."""
    if provenance is None:
        return []
    definition, details = provenance.get("buildDefinition") or {}, provenance.get("runDetails") or {}
    asked, metadata = definition.get("externalParameters") or {}, details.get("metadata") or {}
    owner = (definition.get("internalParameters") or {}).get("owner", "?")
    found = [f"built     {metadata.get('invocationId')} by {owner}, {metadata.get('finishedOn')}"]
    found.append(f"source    {asked.get('source')}, {asked.get('dockerfile')}")
    return found + [f"material  {item.get('uri')}" for item in definition.get("resolvedDependencies") or ()]


def _counted(packages: list[str]) -> str:
    kinds = Counter(item.removeprefix("pkg:").partition("/")[0] for item in packages)
    each = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"{len(packages)}{f' ({each})' if each else ''}"


@image.command("sbom")
@click.argument("reference")
@with_session
def image_sbom(session: Session, reference: str) -> None:
    """Print what is in an image as an SPDX document."""
    click.echo(json.dumps(session.client.sbom(reference), indent=1))


@image.command("findings")
@click.argument("reference")
@with_session
def image_findings(session: Session, reference: str) -> None:
    """List what is known to be wrong with an image's packages, the worst first (see slipway advisories)."""
    found = session.client.registry.findings(reference)
    if session.json:
        session.value(found, "")
        return
    session.table(found.findings, ("severity", "id", "package", "version", "fixed", "summary"))
    counts = Counter(item.severity for item in found.findings)
    each = ", ".join(f"{counts[level]} {level}" for level in _LEVELS if counts[level])
    click.echo(
        f"{len(found.findings)} findings{f' ({each})' if each else ''} in {found.checked} packages", err=True
    )
    for reason, count in found.unchecked.items():
        click.echo(f"not looked up: {count} packages, {reason}", err=True)


@image.command("export")
@click.argument("reference")
@click.option("-o", "--output", "dest", required=True, metavar="FILE|-", help="- is standard output.")
@click.option(
    "--format", "form", type=click.Choice(["oci", "docker", "tar", "local"]), default="oci", show_default=True,
    help="oci and docker are image archives, tar is the root as a container sees it, local unpacks that.",
)  # fmt: skip
@click.option("--platform", default="", metavar="OS/ARCH", help="Only this one of an index.")
@with_session
def image_export(session: Session, reference: str, dest: str, form: str, platform: str) -> None:
    """Write an image into a file, e.g. for docker load, podman load or skopeo."""
    Output(form, dest).write(session, reference, platform)
    if dest != "-":
        session.said(f"wrote {reference} to {dest}", reference=reference, dest=dest)


@image.command("push")
@click.argument("reference")
@click.argument("target")
@with_session
def image_push(session: Session, reference: str, target: str) -> None:
    """Copy an image to another registry, e.g. slipway image push demo/web:1 registry.example.org/team/web:1.

    The login is the one docker or podman has for that registry on this machine.
    """
    result = push(session, reference, target)
    if not session.json:
        click.echo(f"pushed {result['pushed']}")


@image.command("rm")
@click.argument("references", nargs=-1, required=True)
@click.option("--now", is_flag=True, help="For good: there is no way back, and the space is free at once.")
@with_session
def image_rm(session: Session, references: tuple[str, ...], now: bool) -> None:
    """Remove tags (with the last one the image), or by digest an image with all its tags.

    They go to the project's trash, from where `slipway image restore` takes them for 24 hours.
    """
    for reference in references:
        session.client.delete_image(reference, now=now)
        hint = "" if now else f" (slipway image restore {reference} takes it back)"
        session.said(f"removed {reference}{hint}", removed=reference)


@image.command("restore")
@click.argument("references", nargs=-1, required=True)
@with_session
def image_restore(session: Session, references: tuple[str, ...]) -> None:
    """Take tags or images out of the trash again."""
    for reference in references:
        session.client.registry.restore(reference)
        session.said(f"restored {reference}", restored=reference)


@image.command("trash")
@click.argument("project")
@with_session
def image_trash(session: Session, project: str) -> None:
    """List what of a project can still be restored, and until when."""
    columns = ("repository", "tag", "digest", "deleted", "deleted_by", "until")
    session.table(session.client.registry.trash(project), columns)


@image.command("base")
@click.argument("name")
@click.option("--mirror", default="", help="Package source; default: this host's for the same release.")
@click.option("--include", "include", multiple=True, help="Further packages.")
@click.option("--variant", default="minbase", show_default=True)
@click.option("--force", is_flag=True, help="Make it again although it is there.")
@with_session
def image_base(
    session: Session, name: str, mirror: str, include: tuple[str, ...], variant: str, force: bool
) -> None:
    """Make a base image from a distribution's packages, e.g. debian:bookworm.

    A site without any public registry can start with it: `FROM debian:bookworm` then finds it here.
    """
    request = wire.BaseImage(name=name, mirror=mirror, include=list(include), variant=variant, force=force)
    result = session.follow(session.client.base_image(request))
    if not session.json:
        how = "is there already" if result.get("unchanged") else "made"
        click.echo(f"{result['reference']} {how}: {result['digest']}")


COMMANDS = [image, search]
