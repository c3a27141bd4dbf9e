"""Other sites that hold the same images."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import click

from slipway import wire
from slipway.cli.events.plain import size
from slipway.cli.session import Session, with_session
from slipway.cli.sizes import size_of


@click.group()
def site() -> None:
    """Other registries that get our images or give us theirs.

    \b
    One to many      slipway site add berlin https://berlin.example.org -u replicator --password-stdin
    Tiers            the same on berlin, for the sites behind it
    Two primaries    the same on both, each adding the other
    """


@site.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--pull", is_flag=True, help="Take from there, instead of giving.")
@click.option("-u", "--user", "username", default="", help="Our account there: an administrator, or a robot.")
@click.option("--password-stdin", is_flag=True, help="Read its password from standard input.")
@click.option("--project", "projects", multiple=True, help="Only these, with wildcards; repeatable.")
@click.option("--repository", "repositories", multiple=True, help="Only these, e.g. 'shop/*'; repeatable.")
@click.option("--tag", "tags", multiple=True, help="Only these, e.g. 'v*'; repeatable.")
@click.option(
    "--label", "labels", multiple=True, metavar="KEY[=VALUE]", help="Only images that have it; repeatable."
)
@click.option("--deletions", is_flag=True, help="What is deleted goes there (or here), too.")
@click.option("--every", type=click.FloatRange(0), default=0, help="Every so many seconds; 0: as it happens.")
@click.option("--bandwidth", default="0", metavar="SIZE", help="Bytes a second, e.g. 10m; 0: no limit.")
@click.option("--at-once", type=click.IntRange(1, 32), default=4, show_default=True, help="Images under way.")
@click.option(
    "--ca", type=click.File(), metavar="FILE", help="Certificates (PEM) to trust there, beside the system's."
)
@click.option("--prefix", default="", help="In front of the names of our repositories over there.")
@click.option("--into", default="", metavar="PROJECT", help="The project here that takes what is pulled.")
@with_session
def site_add(
    session: Session, /, name: str, url: str, pull: bool, username: str, password_stdin: bool, bandwidth: str,
    ca: TextIO | None, **options: Any,
) -> None:  # fmt: skip
    """Replicate with the registry at URL: another Slipway or any other OCI registry."""
    password = ""
    if username:
        password = (
            sys.stdin.readline().rstrip("\n") if password_stdin else click.prompt("password", hide_input=True)
        )
    options |= {"bandwidth": size_of(bandwidth), "authority": ca.read() if ca else ""}
    chosen = wire.SiteOptions.model_validate(options)
    request = wire.NewSite(
        name=name, url=url, direction="pull" if pull else "push", username=username, password=password,
        options=chosen,
    )  # fmt: skip
    session.client.registry.add_site(request)
    verb = "pulled from" if pull else "pushed to"
    session.said(f"images are {verb} {url} (slipway site show {name})", site=name, url=url)


@site.command("ls")
@with_session
def site_ls(session: Session) -> None:
    """List the sites and how far replication with each is."""
    columns = ("name", "url", "direction", "kind", "state", "pending", "lag", "last_success")
    session.table(session.client.registry.sites(), columns)


@site.command("show")
@click.argument("name")
@with_session
def site_show(session: Session, name: str) -> None:
    """Show one site: what is replicated with it, how far it is, what is wrong."""
    _show(session, session.client.registry.site(name))


@site.command("sync")
@click.argument("name")
@with_session
def site_sync(session: Session, name: str) -> None:
    """Replicate now, and say how far that came."""
    found = session.client.registry.sync_site(name)
    _show(session, found)
    if found.error:
        sys.exit(1)


def _show(session: Session, found: wire.Site) -> None:
    options = found.options
    only = [
        f"{what} {', '.join(values)}"
        for what, values in (
            ("projects", options.projects), ("repositories", options.repositories), ("tags", options.tags),
            ("labels", options.labels),
        )
        if values
    ]  # fmt: skip
    when = f"every {options.every:g} s" if options.every else "as it happens"
    lines = [
        f"{found.name}: {'gives to' if found.direction == 'push' else 'takes from'} {found.url} ({found.kind})",
        f"state      {found.state}{f': {found.error}' if found.error else ''}",
        f"lag        {found.lag:g} s, {found.pending} changes",
        f"success    {found.last_success or 'never'}",
        f"moved      {found.images} images, {size(found.bytes)}",
        f"when       {when}{f', at most {size(options.bandwidth)} a second' if options.bandwidth else ''}",
        f"only       {'; '.join(only) or 'everything'}",
        f"deletions  {'too' if options.deletions else 'not'}",
    ]
    session.value(found, "\n".join(lines))


@site.command("rm")
@click.argument("name")
@with_session
def site_rm(session: Session, name: str) -> None:
    """End replication with a site. What was replicated stays on both sides."""
    session.client.registry.remove_site(name)
    session.said(f"removed the site {name}", removed=name)


@site.command("conflicts")
@with_session
def site_conflicts(session: Session) -> None:
    """List tags that two sites moved at the same time: what holds, and what it won against.

    The image that lost is still there by its digest.
    """
    columns = ("moment", "repository", "tag", "kept", "kept_origin", "lost", "lost_origin")
    session.table(session.client.registry.conflicts(), columns)


COMMANDS = [site]
