"""Instructions that change the configuration only."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from typing import Any

from slipway.build.dockerfile import (
    Arg,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
)
from slipway.build.plan.inherit import ForgetTriggers
from slipway.build.plan.lowering import Lowering
from slipway.build.plan.operations import ConfigOp

# ``ip:host:container`` is for running, not for an image; its last part is what the image says.
_PORT = re.compile(r"(?:.*:)?(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE | re.ASCII)
_REALTIME = re.compile(r"RT(?:MIN(?:\+([0-9]|1[0-5]))?|MAX(?:-([0-9]|1[0-4]))?)", re.ASCII)
_SIGNALS = {item.name.removeprefix("SIG") for item in signal.Signals}


def arg(at: Lowering, item: Arg) -> ConfigOp:
    """Each name of one ARG sees those before it. The history keeps no values: they may be nobody's business."""
    plan, environment = at.plan, at.state.config.environment
    args, values = dict(at.state.args), dict(at.values)
    for name, default in item.pairs:
        if name in plan.build_args:
            args[name] = plan.build_args[name]
        elif default is not None:
            args[name] = replace(at, values=values).expand(default)
        elif name in plan.global_args:
            args[name] = plan.global_args[name]
        if name in args:
            values[name] = environment.get(name, args[name])
    at.bounded(args, "ARGs")
    return ConfigOp(replace(at.state, args=args), item.original, item.location, recorded=False)


def env(at: Lowering, item: Env) -> ConfigOp:
    pairs = _expanded(at, item.pairs)
    for name, _ in pairs:
        if not name or "=" in name:
            raise at.fail(f"not a name for a variable: {name[:60]!r}")
    merged = at.state.config.environment | dict(pairs)
    at.bounded(merged, "variables")
    return at.config(_shown("ENV", pairs), Env=[f"{name}={value}" for name, value in merged.items()])


def label(at: Lowering, item: Label) -> ConfigOp:
    pairs = _expanded(at, item.pairs)
    labels = dict(at.state.config.config.get("Labels") or {}) | dict(pairs)
    at.bounded(labels, "labels")
    return at.config(_shown("LABEL", pairs), Labels=labels)


def _expanded(at: Lowering, pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    return [(at.expand(name), at.expand(value)) for name, value in pairs]


def _shown(word: str, pairs: list[tuple[str, str]]) -> str:
    return f"{word} " + " ".join(f"{name}={value}" for name, value in pairs)


def in_shell(at: Lowering, words: tuple[str, ...], exec_form: bool) -> list[str]:
    """The argument vector of a command in either form."""
    return list(words) if exec_form else [*at.state.shell, *words]


def cmd(at: Lowering, item: Cmd) -> ConfigOp:
    words = in_shell(at, item.words, item.exec_form) if item.words else None
    found = at.config(item.original, Cmd=words)
    return replace(found, state=replace(found.state, cmd_stage=at.stage))


def entrypoint(at: Lowering, item: Entrypoint) -> ConfigOp:
    """A CMD from below was meant for another entry point; one of this stage is kept, wherever it stands."""
    changed: dict[str, Any] = {} if at.state.cmd_stage == at.stage else {"Cmd": None}
    words = in_shell(at, item.words, item.exec_form) if item.words else None
    return at.config(item.original, Entrypoint=words, **changed)


def user(at: Lowering, item: User) -> ConfigOp:
    name = at.expand(item.user).strip()
    if not name or name.startswith(":"):
        raise at.fail(f"USER {item.user} names nobody", item.user, "give a name or a number; root is 0")
    return at.config(f"USER {name}", User=name)


def expose(at: Lowering, item: Expose) -> ConfigOp:
    ports = dict(at.state.config.config.get("ExposedPorts") or {})
    words = [word for text in item.ports for word in at.words(text)]
    for word in words:
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last < 65536:
            raise at.fail(f"not a port: {word[:60]!r}", word, "e.g. 80, 53/udp or 8000-8010")
        protocol = (match[3] or "tcp").lower()
        ports.update({f"{port}/{protocol}": {} for port in range(first, last + 1)})
    return at.config(f"EXPOSE {' '.join(words)}", ExposedPorts=ports)


def volume(at: Lowering, item: Volume) -> ConfigOp:
    volumes = dict(at.state.config.config.get("Volumes") or {})
    paths = [at.expand(path) for path in item.paths]
    if not all(paths):
        raise at.fail("the path of a volume is empty", hint="is its variable set?")
    volumes.update({path: {} for path in paths})
    return at.config(f"VOLUME {' '.join(paths)}", Volumes=volumes)


def stopsignal(at: Lowering, item: Stopsignal) -> ConfigOp:
    text = at.expand(item.signal)
    name = text.upper().removeprefix("SIG")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not (name in _SIGNALS or _REALTIME.fullmatch(name) or 0 < number <= 64):
        raise at.fail(f"not a signal: {text[:60]!r}", item.signal, "e.g. SIGTERM, SIGRTMIN+3 or 15")
    return at.config(f"STOPSIGNAL {text}", StopSignal=text)


def healthcheck(at: Lowering, item: Healthcheck) -> ConfigOp:
    if not item.test:
        return at.config(item.original, Healthcheck={"Test": ["NONE"]})
    test = ["CMD", *item.test] if item.exec_form else ["CMD-SHELL", *item.test]
    numbers = {
        "Interval": item.interval, "Timeout": item.timeout, "StartPeriod": item.start_period,
        "StartInterval": item.start_interval, "Retries": item.retries,
    }  # fmt: skip
    check = {"Test": test, **{name: value for name, value in numbers.items() if value}}
    return at.config(item.original, Healthcheck=check)


def shell(at: Lowering, item: Shell) -> ConfigOp:
    return at.config(item.original, Shell=list(item.words))


def maintainer(at: Lowering, item: Maintainer) -> ConfigOp:
    state = replace(at.state, config=replace(at.state.config, author=item.author))
    return ConfigOp(state, item.original, item.location)


def onbuild(at: Lowering, item: Onbuild) -> ConfigOp:
    triggers = [*(at.state.config.config.get("OnBuild") or []), item.trigger]
    return at.config(item.original, OnBuild=triggers)


def forget_triggers(at: Lowering, item: ForgetTriggers) -> ConfigOp:
    return replace(at.config(item.original, OnBuild=None), recorded=False)
