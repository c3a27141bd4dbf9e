"""Telling other programs what happens to images."""

from __future__ import annotations

import click

from slipway import wire
from slipway.cli.session import Session, with_session


@click.group()
def webhook() -> None:
    """Addresses that are told what happens to a project's images, as signed CloudEvents."""


@webhook.command("add")
@click.argument("project")
@click.argument("url")
@click.option(
    "--on", "kinds", multiple=True, metavar="KIND", help="E.g. image.pushed; repeatable; default: all."
)
@with_session
def webhook_add(session: Session, project: str, url: str, kinds: tuple[str, ...]) -> None:
    """Send the project's events to URL. Prints the secret they are signed with, this once.

    Each has the header Slipway-Signature: t=SECONDS,v1=HMAC-SHA256 of "SECONDS.BODY" with the secret, in hexadecimal.
    """
    made = session.client.registry.add_webhook(project, wire.NewWebhook(url=url, kinds=list(kinds)))
    session.value(made, f"webhook {made.id} for {', '.join(made.kinds)}\nsecret  {made.secret}")


@webhook.command("ls")
@click.argument("project")
@with_session
def webhook_ls(session: Session, project: str) -> None:
    """List a project's webhooks."""
    session.table(
        session.client.registry.webhooks(project), ("id", "url", "kinds", "pending", "failed", "created")
    )


@webhook.command("deliveries")
@click.argument("project")
@click.argument("number", type=int)
@with_session
def webhook_deliveries(session: Session, project: str, number: int) -> None:
    """Show what was sent to a webhook and what it answered, newest first."""
    columns = ("id", "kind", "subject", "state", "attempts", "due", "answer")
    session.table(session.client.registry.webhook_deliveries(project, number), columns)


@webhook.command("rm")
@click.argument("project")
@click.argument("number", type=int)
@with_session
def webhook_rm(session: Session, project: str, number: int) -> None:
    """Remove a webhook; what it was not told yet it will not be told."""
    session.client.registry.remove_webhook(project, number)
    session.said(f"removed the webhook {number} of {project}", removed=number)


COMMANDS = [webhook]
