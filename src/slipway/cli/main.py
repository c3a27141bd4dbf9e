"""The command tree, and how errors reach a person."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import NoReturn

import click

from slipway import __version__
from slipway.cli.session import Session
from slipway.errors import SlipwayError

EPILOG = """\b
Start here:
  slipway up                            start the platform on this machine
  slipway image base debian:bookworm    make a base image from Debian's packages
  slipway deliver DIR                   build, store, release and run what DIR's compose.yaml says
  slipway app ls                        what runs, and where it answers
"""


_MODULES = {
    "up": "server", "down": "server", "status": "server", "doctor": "server", "serve": "server",
    "deliver": "deliver", "build": "build", "builds": "build", "builder": "builders", "image": "images", "app": "apps",
    "tls": "tls", "login": "logins", "token": "logins", "user": "accounts", "project": "accounts", "robot": "accounts",
    "audit": "policies", "site": "sites", "webhook": "webhooks", "mirrors": "mirrors", "advisories": "advisories",
    "cluster": "clusters",
}  # fmt: skip


class _Commands(click.Group):
    """Imports a command's module when the command is asked for: one of them should not wait for all."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _MODULES:
            return None
        module = importlib.import_module(f"slipway.cli.commands.{_MODULES[name]}")
        found: list[click.Command] = module.COMMANDS
        return next(command for command in found if command.name == name)


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="slipway")
@click.option("--server", default="", help="unix:///path or http(s)://host:port; also SLIPWAY_SERVER.")
@click.option(
    "--output",
    type=click.Choice(["auto", "plain", "json"]),
    default="auto",
    help="auto: a live view on a terminal, plain lines elsewhere.",
)
@click.pass_context
def cli(context: click.Context, server: str, output: str) -> None:
    """Slipway takes software from source to a running, operated service on machines you own."""
    context.obj = Session(server, output)


def main() -> NoReturn:
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away; Python would complain again when flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except SlipwayError as error:
        report(error)
        sys.exit(1)
    sys.exit(0)


def report(error: SlipwayError) -> None:
    """The fact, then the remedy; as JSON where a script reads."""
    if "--output=json" in sys.argv or ("--output" in sys.argv and "json" in sys.argv):
        value = {"kind": error.kind, "message": error.message, "hint": error.hint, "context": error.context}
        click.echo(json.dumps({"event": "error", **value}, default=str))
        return
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
    if error.hint:
        click.echo(click.style("hint: ", fg="cyan") + error.hint, err=True)
