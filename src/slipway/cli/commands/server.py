"""Starting, stopping and examining the platform on this machine."""

from __future__ import annotations

import os
import sys

import click

from slipway.cli.session import Session, with_session

_CONFIG = click.option("--config", default="", help="TOML file; default /etc/slipway/slipway.toml if there.")
_SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Override a setting, e.g. apps.listen=…"
)


def become(*words: str) -> None:
    """Replace this process by the daemon's program: it must not load the command line."""
    os.execv(sys.executable, [sys.executable, "-m", "slipway.app", *words])


def _words(session: Session, config: str, settings: tuple[str, ...]) -> list[str]:
    words = ["--config", config] if config else []
    words += [word for setting in settings for word in ("--set", setting)]
    return [*words, *(["--output", "json"] if session.json else [])]


@click.command()
@_CONFIG
@_SETTINGS
@with_session
def up(session: Session, config: str, settings: tuple[str, ...]) -> None:
    """Start the platform on this machine and return when it is healthy.

    Everything runs embedded: no other server is needed. Running it again is harmless.
    """
    become("up", *_words(session, config, settings))


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also stop containers, networks and the balancer.")
@_CONFIG
@_SETTINGS
@with_session
def down(session: Session, everything: bool, config: str, settings: tuple[str, ...]) -> None:
    """Stop the platform. Containers keep serving and are found again by `slipway up`."""
    become("down", *(["--all"] if everything else []), *_words(session, config, settings))


@click.command()
@click.option(
    "--role",
    type=click.Choice(["all", "api", "registry"]),
    default="all",
    help="Over a database and a bucket that several servers share, `registry`: only pushes and pulls; `api`: the "
    "platform without a machine, which builds and runs apps on clusters.",
)
@_CONFIG
@_SETTINGS
@with_session
def serve(session: Session, role: str, config: str, settings: tuple[str, ...]) -> None:
    """Run the platform in the foreground (for a service manager)."""
    become("serve", "--role", role, *_words(session, config, settings))


@click.command()
@_CONFIG
@_SETTINGS
@with_session
def doctor(session: Session, config: str, settings: tuple[str, ...]) -> None:
    """Say what this host can and cannot do, and how to mend it."""
    become("doctor", *_words(session, config, settings))


@click.command()
@with_session
def status(session: Session) -> None:
    """Say whether the platform runs and what it holds."""
    found = session.client.status()
    lines = [
        f"slipway {found.version}, {'ready' if found.ready else 'starting'}, pid {found.pid}",
        f"platform and registry  {found.url or 'http://' + found.api}",
        f"apps                   http://SERVICE.APP.PROJECT.localhost:{found.apps_address.rpartition(':')[2]}",
        f"data                   {found.data}",
        f"runtime                {found.runtime}",
        f"apps {found.apps}, containers {found.containers}, builds running {found.builds_running}",
        *(f"warning: {text}" for text in found.warnings),
    ]
    session.value(found, "\n".join(lines))


COMMANDS = [up, down, status, doctor, serve]
