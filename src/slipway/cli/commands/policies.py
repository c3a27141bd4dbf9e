"""What a project's images may be and how long they stay; the audit."""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import Any

import click

from slipway import wire
from slipway.cli.events.plain import size
from slipway.cli.session import Session, with_session
from slipway.cli.sizes import size_of
from slipway.errors import Invalid

_WORDS = {"last": int, "pushed": float, "pulled": float}


def _rule(text: str) -> wire.KeepRule:
    """``'v* last=10 pushed=30d pulled=7d'``. Raises ``Invalid``."""
    match, *words = text.split()
    found: dict[str, Any] = {"match": match}
    for word in words:
        name, sign, value = word.partition("=")
        number = re.fullmatch(r"(\d+(?:\.\d+)?)d?", value)
        if not sign or name not in _WORDS or number is None:
            raise Invalid(
                f"not part of a rule: {word!r}", hint="e.g. --keep 'v* last=10 pushed=30d pulled=7d'"
            )
        found[name if name == "last" else f"{name}_days"] = _WORDS[name](number[1])
    return wire.KeepRule.model_validate(found)


@click.command("registry-policy")
@click.argument("name")
@click.option("--quota", metavar="SIZE|none", help="Bytes of all its images; for administrators.")
@click.option(
    "--immutable", multiple=True, metavar="PATTERN", help="Such tags stay where they are; repeatable."
)
@click.option("--mutable", multiple=True, metavar="PATTERN", help="Take such a rule back.")
@click.option(
    "--keep", multiple=True, metavar="RULE",
    help="Retention: 'PATTERN last=N pushed=DAYS pulled=DAYS'; what matches and no rule keeps goes. Repeatable.",
)  # fmt: skip
@click.option("--keep-all", is_flag=True, help="Forget the rules of retention.")
@click.option(
    "--untagged-days", type=click.FloatRange(0), help="Remove images without a tag after so long; 0: never."
)
@click.option("--trash-hours", type=click.FloatRange(0), help="How long what was deleted can be restored.")
@click.option(
    "--require-signature/--no-require-signature", default=None, help="Unsigned images cannot be pulled."
)
@click.option(
    "--block", "block_severity", type=click.Choice(["none", "low", "medium", "high", "critical"]),
    help="Images with findings of this severity or above cannot be pulled.",
)  # fmt: skip
@with_session
def registry_policy(
    session: Session, /, name: str, quota: str | None, immutable: tuple[str, ...], mutable: tuple[str, ...],
    keep: tuple[str, ...], keep_all: bool, block_severity: str | None, **values: Any,
) -> None:  # fmt: skip
    """Show or change what the project's images may be and how long they stay.

    A PATTERN is TAG or REPOSITORY:TAG with * and ?, the repository without its project: 'v*', 'web:v1.*'.
    """
    policy = session.client.registry.policy(name)
    given: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    if quota is not None:
        given["quota"] = None if quota == "none" else size_of(quota)
    if block_severity is not None:
        given["block_severity"] = "" if block_severity == "none" else block_severity
    given["immutable"] = sorted((set(policy.immutable) | set(immutable)) - set(mutable))
    rules = ([] if keep_all else [rule.model_dump() for rule in policy.retention]) + [
        _rule(text).model_dump() for text in keep
    ]
    wanted = wire.RegistryPolicy.model_validate({**policy.model_dump(), **given, "retention": rules})
    found = session.client.registry.set_policy(name, wanted) if wanted != policy else policy
    session.value(found, "\n".join(_lines(found)))


def _lines(policy: wire.RegistryPolicy) -> list[str]:
    quota = "no quota" if policy.quota is None else f"of {size(policy.quota)}"
    found = [f"used       {size(policy.used)}, {quota}", f"immutable  {', '.join(policy.immutable) or '-'}"]
    for rule in policy.retention:
        words = [f"last={rule.last}"] if rule.last else []
        words += [f"pushed={rule.pushed_days:g}d"] if rule.pushed_days else []
        words += [f"pulled={rule.pulled_days:g}d"] if rule.pulled_days else []
        found.append(f"keep       {rule.match} {' '.join(words)}")
    untagged = f"removed after {policy.untagged_days:g} days" if policy.untagged_days else "kept"
    found += [f"untagged   {untagged}", f"trash      {policy.trash_hours:g} hours"]
    found.append(f"pulls      {'signed images only' if policy.require_signature else 'signed or not'}")
    if policy.block_severity:
        found.append(f"           not with findings of {policy.block_severity} or above")
    return found


@click.command("upstream")
@click.argument("name")
@click.argument("url", default="")
@click.option("-u", "--user", "username", default="", help="Our account there.")
@click.option("--password-stdin", is_flag=True, help="Read its password from standard input.")
@click.option("--prefix", default="", help="In front of names over there, e.g. library.")
@click.option(
    "--fresh", type=click.FloatRange(0), default=300, show_default=True, help="Seconds a tag is believed."
)
@click.option("--off", is_flag=True, help="Stand for nothing any more; what was fetched stays.")
@with_session
def upstream(
    session: Session,
    name: str,
    url: str,
    username: str,
    password_stdin: bool,
    prefix: str,
    fresh: float,
    off: bool,
) -> None:
    """Let the project stand for the registry at URL: what is pulled from it is fetched from there once and kept.

    docker pull SLIPWAY/NAME/library/alpine then pulls library/alpine of that registry.
    """
    if not url and not off:
        found = session.client.registry.upstream(name)
        session.value(found, found.url or f"{name} stands for no other registry")
        return
    password = ""
    if username:
        password = (
            sys.stdin.readline().rstrip("\n") if password_stdin else click.prompt("password", hide_input=True)
        )
    wanted = wire.NewUpstream(
        url="" if off else url, username=username, password=password, prefix=prefix, fresh=fresh
    )
    found = session.client.registry.set_upstream(name, wanted)
    session.said(f"{name} stands for {found.url or 'itself'}", project=name, upstream=found.url)


@click.command("retention")
@click.argument("name")
@click.option("--apply", is_flag=True, help="Throw away what no rule keeps, instead of only saying so.")
@with_session
def retention(session: Session, name: str, apply: bool) -> None:
    """Show what the rules of retention do with each of the project's tags (once an hour they do it)."""
    found = session.client.registry.retention(name, apply=apply)
    session.table(found, ("repository", "tag", "pushed", "pulled", "keep", "reason"))


_ISO = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])


@click.command()
@click.option("--project", default="", help="Only this project's; its admins may see that.")
@click.option("--actor", default="", help="What this user or robot did.")
@click.option("--action", default="", help="E.g. image.pushed, or image.* for all of them.")
@click.option("--denied", is_flag=True, help="Only what was refused.")
@click.option("--since", type=_ISO, help="From this time on (UTC).")
@click.option("--until", type=_ISO, help="Before this time (UTC).")
@click.option("-n", "limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--export", is_flag=True, help="All of it, oldest first, one JSON document a line.")
@with_session
def audit(
    session: Session, /, export: bool, since: datetime | None, until: datetime | None, **values: Any
) -> None:
    """Show what was done and what was refused, newest first."""
    times = {"since": _utc(since), "until": _utc(until)}
    wanted = wire.AuditFilter.model_validate({**values, **times})
    if export:
        for piece in session.client.registry.audit_export(wanted):
            sys.stdout.buffer.write(piece)
        return
    session.table(
        session.client.registry.audit(wanted), ("id", "moment", "actor", "action", "target", "allowed")
    )


def _utc(moment: datetime | None) -> str | None:
    return moment.isoformat() + "Z" if moment else None


COMMANDS = [audit]
