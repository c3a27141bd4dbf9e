"""Databases of what is known to be wrong with packages."""

from __future__ import annotations

from pathlib import Path

import click

from slipway.cli.session import Session, with_session


@click.group()
def advisories() -> None:
    """Databases in OSV's format: what images are held against, on a site without any network, too.

    Each ecosystem's is a file all.zip, e.g. the folders Debian:12 or PyPI of osv-vulnerabilities at osv.dev.
    """


@advisories.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--source", default="", help="Its name here; default: the file's. The same again replaces it.")
@with_session
def advisories_import(session: Session, file: Path, source: str) -> None:
    """Read a database (zip, JSON lines or JSON) from FILE."""
    name = source or file.name.partition(".")[0]
    with file.open("rb") as handle:
        found = session.client.registry.load_advisories(name, handle)
    text = f"read {found.read} advisories as {found.source}"
    rest = [
        f"{count} {what}"
        for count, what in (
            (found.withdrawn, "withdrawn"), (found.unused, "about nothing we look at"), (found.skipped, "malformed")
        )
        if count
    ]  # fmt: skip
    lines = [text + (f" ({', '.join(rest)})" if rest else ""), *(f"  {reason}" for reason in found.reasons)]
    session.value(found, "\n".join(lines))


@advisories.command("ls")
@with_session
def advisories_ls(session: Session) -> None:
    """List the databases that were read, and when."""
    session.table(session.client.registry.advisories(), ("name", "loaded", "advisories"))


@advisories.command("rm")
@click.argument("source")
@with_session
def advisories_rm(session: Session, source: str) -> None:
    """Forget a database."""
    session.client.registry.remove_advisories(source)
    session.said(f"removed {source}", removed=source)


COMMANDS = [advisories]
