"""``python -m slipway.app``: the daemon's entry. Started by the command line, or by a service manager."""

from __future__ import annotations

# ruff: noqa: E402
import signal
import sys

# Before anything takes time: the first process of a container gets no signal that it has not asked for.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from slipway.app.settings import SETTINGS, Settings, load
from slipway.errors import SlipwayError, Unavailable

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


class _Options:
    """What every command takes, as given and as understood."""

    def __init__(self, config: str, settings: Sequence[str], output: str) -> None:
        self.words = (["--config", config] if config else []) + [
            w for item in settings for w in ("--set", item)
        ]
        self.json = output == "json"
        self.settings: Settings = load(Path(config) if config else None, os.environ, settings)

    def said(self, text: str) -> None:
        click.echo(json.dumps({"message": text}) if self.json else text)


_EPILOG = "\b\nSettings (TOML file, environment, --set):\n" + "\n".join(
    f"  {item.name:16} {item.help} [{item.default}]" for item in SETTINGS
)


def _common(function: Callable[..., None]) -> Callable[..., None]:
    function = click.option("--config", default="")(function)
    function = click.option("--set", "settings", multiple=True)(function)
    return click.option("--output", default="plain")(function)


@click.group(epilog=_EPILOG)
def main() -> None:
    """The Slipway server."""


@main.command()
@click.option("--role", type=click.Choice(["all", "api", "registry"]), default="all")
@_common
def serve(role: str, config: str, settings: tuple[str, ...], output: str) -> None:
    """Run in the foreground."""
    options = _Options(config, settings, output)
    # What a role does not need is not loaded.
    if role == "registry":
        from slipway.app.registry_role import serve as run
    elif role == "api":
        from slipway.app.api_role import serve as run
    else:
        from slipway.app.serve import serve as run
    asyncio.run(run(options.settings))


@main.command()
@_common
def up(config: str, settings: tuple[str, ...], output: str) -> None:
    """Run in the background; returns when healthy."""
    from slipway.app.lifecycle import up as start

    options = _Options(config, settings, output)
    options.said(start(options.settings, options.words))


@main.command()
@click.option("--all", "everything", is_flag=True)
@_common
def down(everything: bool, config: str, settings: tuple[str, ...], output: str) -> None:
    """Stop the server, or with --all everything."""
    from slipway.app.lifecycle import down as stop

    options = _Options(config, settings, output)
    options.said(stop(options.settings, everything))


@main.command()
@click.argument("directory")
@_common
def keys(directory: str, config: str, settings: tuple[str, ...], output: str) -> None:
    """Make what the servers of one site share, in a directory."""
    from slipway.access import Vault
    from slipway.access.oidc import seal_key
    from slipway.access.tokens import RegistryTokens

    options = _Options(config, settings, output)
    try:
        RegistryTokens(Path(directory), "slipway-registry")
        Vault(Path(directory))
        seal_key(Path(directory))
    except OSError as error:
        raise Unavailable(f"{directory} cannot be written: {error.strerror}") from error
    options.said(f"the keys are in {directory}")


@main.command()
@_common
def doctor(config: str, settings: tuple[str, ...], output: str) -> None:
    """Examine the host."""
    from slipway.runtime import HostFacts

    options = _Options(config, settings, output)
    facts = asyncio.run(HostFacts.probe([options.settings["listen"], options.settings["apps.listen"]]))
    if options.json:
        click.echo(json.dumps([asdict(check) for check in facts.checks], indent=1))
    else:
        for check in facts.checks:
            mark, colour = _MARKS[check.status]
            mend = f"  → {check.mend}" if check.mend and check.status != "ok" else ""
            click.echo(f"{click.style(mark, fg=colour)} {check.name:18} {check.detail}{mend}")
    sys.exit(1 if any(check.status == "fail" for check in facts.checks) else 0)


def _report(error: SlipwayError) -> None:
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True)
    if error.hint:
        click.echo(click.style("hint: ", fg="cyan") + error.hint, err=True)


if __name__ == "__main__":
    try:
        main()
    except SlipwayError as failure:
        _report(failure)
        sys.exit(1)
    except BaseExceptionGroup as group:
        found = group.exceptions[0]
        if not isinstance(found, SlipwayError):
            raise
        _report(found)
        sys.exit(1)
