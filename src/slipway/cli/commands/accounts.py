"""Users, projects, members and robots."""

from __future__ import annotations

import sys

import click

from slipway.cli.commands.grants import app_policy, build_policy
from slipway.cli.commands.policies import registry_policy, retention, upstream
from slipway.cli.session import Session, with_session


def _read_password(from_stdin: bool, confirm: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    answer: str = click.prompt("password", hide_input=True, confirmation_prompt=confirm)
    return answer


_STDIN = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group()
def user() -> None:
    """People who may log in."""


@user.command("ls")
@with_session
def user_ls(session: Session) -> None:
    """List users."""
    session.table(session.client.users(), ("name", "is_admin", "disabled", "external", "created"))


@user.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="May administer the whole platform.")
@_STDIN
@with_session
def user_create(session: Session, name: str, admin: bool, password_stdin: bool) -> None:
    """Create a user."""
    session.client.create_user(name, _read_password(password_stdin, confirm=True), admin)
    session.said(f"created the user {name}", user=name)


@user.command("passwd")
@click.argument("name")
@_STDIN
@with_session
def user_passwd(session: Session, name: str, password_stdin: bool) -> None:
    """Set a user's password and end that user's logins."""
    session.client.set_password(name, _read_password(password_stdin, confirm=True))
    session.said(f"changed the password of {name}", user=name)


@user.command("rm")
@click.argument("name")
@with_session
def user_rm(session: Session, name: str) -> None:
    """Remove a user."""
    session.client.delete_user(name)
    session.said(f"removed the user {name}", removed=name)


@click.group()
def project() -> None:
    """Projects and their members."""


@project.command("ls")
@with_session
def project_ls(session: Session) -> None:
    """List the projects you may see."""
    session.table(session.client.projects(), ("name", "public", "created"))


@project.command("create")
@click.argument("name")
@click.option("--public", is_flag=True, help="Everybody may pull.")
@with_session
def project_create(session: Session, name: str, public: bool) -> None:
    """Create a project; you become its admin."""
    session.client.create_project(name, public)
    session.said(f"created the project {name}", project=name)


@project.command("signing-key")
@click.argument("name")
@with_session
def project_signing_key(session: Session, name: str) -> None:
    """Print the public key that the project's images are signed with, e.g. for cosign verify --key."""
    found = session.client.signing_key(name)
    session.value(found, found.public.rstrip())


@project.command("rm")
@click.argument("name")
@with_session
def project_rm(session: Session, name: str) -> None:
    """Remove a project that has no apps, with its images."""
    session.client.delete_project(name)
    session.said(f"removed the project {name}", removed=name)


@project.command("members")
@click.argument("name")
@with_session
def project_members(session: Session, name: str) -> None:
    """List a project's members."""
    session.table(session.client.members(name), ("user", "role", "origin"))


@project.command("add")
@click.argument("name")
@click.argument("member")
@click.option("--role", type=click.Choice(["admin", "developer", "guest"]), default="developer")
@with_session
def project_add(session: Session, name: str, member: str, role: str) -> None:
    """Give MEMBER a role in the project."""
    session.client.set_member(name, member, role)
    session.said(f"{member} is {role} in {name}", project=name, user=member, role=role)


@project.command("remove")
@click.argument("name")
@click.argument("member")
@with_session
def project_remove(session: Session, name: str, member: str) -> None:
    """Take MEMBER out of the project."""
    session.client.remove_member(name, member)
    session.said(f"{member} is no longer in {name}", project=name, user=member)


@click.group()
def robot() -> None:
    """Accounts of programs, e.g. for docker login."""


@robot.command("ls")
@click.argument("project_name")
@with_session
def robot_ls(session: Session, project_name: str) -> None:
    """List a project's robots."""
    session.table(session.client.robots(project_name), ("name", "role", "repositories", "expires", "created"))


@robot.command("create")
@click.argument("project_name")
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "developer", "guest"]), default="developer")
@click.option("--days", type=int, default=30, show_default=True, help="0: does not expire.")
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    metavar="PATTERN",
    help="Only these, e.g. 'web*'; repeatable.",
)
@with_session
def robot_create(
    session: Session, project_name: str, name: str, role: str, days: int, repositories: tuple[str, ...]
) -> None:
    """Create a robot and print its secret, this once."""
    made = session.client.create_robot(project_name, name, role, days or None, repositories)
    session.value(made, f"login   {made.login}\nsecret  {made.secret}\nexpires {made.expires or 'never'}")


@robot.command("rm")
@click.argument("project_name")
@click.argument("name")
@with_session
def robot_rm(session: Session, project_name: str, name: str) -> None:
    """Remove a robot."""
    session.client.delete_robot(project_name, name)
    session.said(f"removed the robot {name}", removed=name)


project.add_command(app_policy)
project.add_command(build_policy)
project.add_command(registry_policy)
project.add_command(retention)
project.add_command(upstream)

COMMANDS = [user, project, robot]
