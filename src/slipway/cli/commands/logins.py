"""Logging in, and personal tokens."""

from __future__ import annotations

import sys
import time

import click

from slipway.cli.session import Session, with_session
from slipway.client import Client, Credentials
from slipway.client.credentials import read_authority
from slipway.errors import Unauthenticated, Unsupported

_SLOWER = 5


@click.command()
@click.argument("server", default="http://127.0.0.1:7070")
@click.option("-u", "--user", default="", help="With a password of this server.")
@click.option("--oidc", is_flag=True, help="At the server's OpenID provider, with a browser on any device.")
@click.option("--token-stdin", is_flag=True, help="With the token that SERVER/api/v1/oidc/start ends with.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--ca", default="", metavar="FILE", help="Trust this authority (PEM) instead of the system's.")
@with_session
def login(
    session: Session, server: str, user: str, oidc: bool, token_stdin: bool, password_stdin: bool, ca: str
) -> None:
    """Log in to SERVER and remember it. Root on the server's own machine needs none."""
    if [bool(user), oidc, token_stdin].count(True) != 1:
        raise click.UsageError("one of --user, --oidc and --token-stdin")
    server = server.rstrip("/")
    authority = read_authority(ca) or Credentials.load(server).authority
    client = Client(Credentials(server, authority=authority))
    if oidc:
        user, token = _with_device(client, server)
    elif token_stdin:
        token = sys.stdin.readline().strip()
        user = Client(Credentials(server, token, authority)).me().name
    else:
        password = (
            sys.stdin.readline().rstrip("\n") if password_stdin else click.prompt("password", hide_input=True)
        )
        token = client.login(user, password).token
    path = Credentials(server, token, authority).save()
    session.said(f"logged in to {server} as {user}; the token is in {path}", server=server, user=user)


def _with_device(client: Client, server: str) -> tuple[str, str]:
    """Name and token, once the person has agreed at the provider (RFC 8628)."""
    try:
        begun = client.start_device_login()
    except Unsupported as error:
        raise Unsupported(
            error.message,
            hint=f"open {server}/api/v1/oidc/start in a browser, then `slipway login {server} --token-stdin`",
        ) from error
    click.echo(f"open {begun.verification_uri} and enter the code {begun.user_code}", err=True)
    if begun.verification_uri_complete:
        click.echo(f"or open {begun.verification_uri_complete}", err=True)
    end, interval = time.monotonic() + begun.expires_in, begun.interval
    while time.monotonic() < end:
        time.sleep(interval)
        answer = client.poll_device_login(begun.device_code)
        if answer.state == "done":
            return answer.name, answer.token
        if answer.state == "slow_down":
            interval += _SLOWER
    raise Unauthenticated("nobody agreed in time", hint="begin again")


@click.group()
def token() -> None:
    """Personal tokens: they stand for your password, e.g. for docker login."""


@token.command("ls")
@click.option("--user", default="", help="Somebody else's, for an administrator.")
@with_session
def token_ls(session: Session, user: str) -> None:
    """List your tokens."""
    session.table(session.client.personal_tokens(user), ("name", "expires", "created"))


@token.command("create")
@click.argument("name")
@click.option("--days", type=int, default=90, show_default=True, help="0: does not expire.")
@with_session
def token_create(session: Session, name: str, days: int) -> None:
    """Create a token and print it, this once."""
    made = session.client.create_personal_token(name, days or None)
    session.value(made, f"login   {made.login}\nsecret  {made.secret}\nexpires {made.expires or 'never'}")


@token.command("rm")
@click.argument("name")
@click.option("--user", default="", help="Somebody else's, for an administrator.")
@with_session
def token_rm(session: Session, name: str, user: str) -> None:
    """Remove a token: what uses it is refused from now on."""
    session.client.delete_personal_token(name, user)
    session.said(f"removed the token {name}", removed=name)


COMMANDS = [login, token]
