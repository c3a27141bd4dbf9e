"""What a project's builds and apps may use."""

from __future__ import annotations

from typing import Any

import click

from slipway import wire
from slipway.cli.session import Session, with_session
from slipway.cli.sizes import size_of

_ENTITLEMENTS = ["network.host", "security.insecure", "pod.in-place", "device=NAME"]


@click.command("build-policy")
@click.argument("name")
@click.option("--cpus", type=click.FloatRange(0, min_open=True), help="CPUs of one build.")
@click.option("--memory", metavar="SIZE", help="Memory of one build, e.g. 2g.")
@click.option("--pids", type=click.IntRange(1), help="Processes of one build.")
@click.option("--disk", metavar="SIZE", help="What one step may write.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Time of one build.")
@click.option("--parallel", type=click.IntRange(0), help="Builds at the same time; 0 is no limit of its own.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Builds of higher priority go first.")
@click.option("--allow", "allowed", multiple=True, metavar="|".join(_ENTITLEMENTS), help="Grant; repeatable.")
@click.option("--deny", "denied", multiple=True, metavar="NAME", help="Take back.")
@click.option("--reset", is_flag=True, help="Begin with the server's own settings.")
@with_session
def build_policy(
    session: Session, /, name: str, memory: str | None, disk: str | None, allowed: tuple[str, ...],
    denied: tuple[str, ...], reset: bool, **values: Any,
) -> None:  # fmt: skip
    """Show or change what the project's builds may use. Changing it is for administrators.

    security.insecure lets RUN --security=insecure have every capability in the build's own user namespace;
    network.host lets RUN --network=host use the machine's network; device=NAME lets RUN --device=NAME use a device:
    vendor.com/class=name of the host's CDI files, or a node, e.g. device=/dev/kvm.
    """
    policy = wire.BuildPolicy() if reset else session.client.build_policy(name)
    given = {key: value for key, value in values.items() if value is not None}
    given |= {key: size_of(text) for key, text in (("memory", memory), ("disk", disk)) if text is not None}
    allow = (set(policy.allow) | set(allowed)) - set(denied)
    wanted = wire.BuildPolicy.model_validate({**policy.model_dump(), **given, "allow": sorted(allow)})
    found = session.client.set_build_policy(name, wanted) if reset or wanted != policy else policy
    lines = (f"{key:10} {_shown(value)}" for key, value in found.model_dump().items())
    session.value(found, "\n".join(lines))


@click.command("app-policy")
@click.argument("name")
@click.option(
    "--allow", "allowed", multiple=True, metavar="CAPABILITY", help="Grant, e.g. NET_ADMIN; repeatable."
)
@click.option("--deny", "denied", multiple=True, metavar="CAPABILITY", help="Take back.")
@with_session
def app_policy(session: Session, name: str, allowed: tuple[str, ...], denied: tuple[str, ...]) -> None:
    """Show or change what the project's apps may have. Changing it is for administrators.

    Services may name Docker's default capabilities in cap_add, and those that are granted here; ALL is every one. With
    some (SYS_ADMIN, SYS_MODULE, ...) who delivers to the project can take over the machine or node it runs on.
    """
    policy = session.client.app_policy(name)
    wanted = sorted((set(policy.capabilities) | _named(allowed)) - _named(denied))
    if wanted != policy.capabilities:
        policy = session.client.set_app_policy(name, wire.AppPolicy(capabilities=wanted))
    session.value(policy, f"{'capabilities':12} {_shown(policy.capabilities)}")


def _named(capabilities: tuple[str, ...]) -> set[str]:
    """As the server keeps them, so that what is denied is found among them."""
    return {name.upper().removeprefix("CAP_") for name in capabilities}


def _shown(value: Any) -> str:
    if value is None:
        return "(the server's)"
    return (", ".join(value) or "-") if isinstance(value, list) else str(value)
