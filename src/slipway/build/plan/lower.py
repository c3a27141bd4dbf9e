"""One instruction and a state become one operation."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from slipway.build.dockerfile import (
    Arg,
    Cmd,
    Copy,
    DockerfileError,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
    expand,
    expand_words,
)
from slipway.build.plan.operations import (
    ConfigOp,
    CopyOp,
    FromContext,
    FromImage,
    FromStage,
    Operation,
    RunOp,
    StageState,
    WorkdirOp,
)
from slipway.build.plan.stages import PROXIES, BuildPlan, stage_of
from slipway.errors import Invalid
from slipway.oci import Reference

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


class _Lowering:
    """The values and failures of one instruction."""

    def __init__(self, instruction: Instruction, state: StageState, plan: BuildPlan, stage: int) -> None:
        self.instruction = instruction
        self.state = state
        self.plan = plan
        self.stage = stage
        self.values = {**state.values}

    def fail(self, message: str) -> DockerfileError:
        return DockerfileError(message, self.instruction.location)

    def unsupported(self, what: str) -> DockerfileError:
        return DockerfileError(f"{what} is not supported yet", self.instruction.location, word=what)

    def expand(self, text: str) -> str:
        return expand(text, self.values, self.fail, escape=self.plan.escape)

    def words(self, text: str) -> list[str]:
        return expand_words(text, self.values, self.fail, escape=self.plan.escape)

    def config(self, created_by: str, **fields: Any) -> ConfigOp:
        changed = self.state.config.with_config(**fields)
        return ConfigOp(replace(self.state, config=changed), created_by, self.instruction.location)


def lower(instruction: Instruction, state: StageState, plan: BuildPlan, stage: int) -> Operation:
    """The operation ``instruction`` is in ``state``; ``stage`` is the index of the stage it stands in.

    Raises ``DockerfileError`` for values that make no sense and for what is not supported yet.
    """
    return _LOWERINGS[type(instruction)](_Lowering(instruction, state, plan, stage), instruction)


def _arg(at: _Lowering, item: Arg) -> ConfigOp:
    args = dict(at.state.args)
    for name, default in item.pairs:
        if name in at.plan.build_args:
            args[name] = at.plan.build_args[name]
        elif default is not None:
            args[name] = expand(default, {**at.values, **args}, at.fail, escape=at.plan.escape)
        elif name in at.plan.global_args:
            args[name] = at.plan.global_args[name]
        at.values = {**args, **at.state.config.environment}
    return ConfigOp(replace(at.state, args=args), item.original, item.location, recorded=False)


def _env(at: _Lowering, item: Env) -> ConfigOp:
    # All values see the environment as it was before the instruction.
    pairs = [(at.expand(name), at.expand(value)) for name, value in item.pairs]
    merged = at.state.config.environment | dict(pairs)
    shown = " ".join(f"{name}={value}" for name, value in pairs)
    return at.config(f"ENV {shown}", Env=[f"{name}={value}" for name, value in merged.items()])


def _label(at: _Lowering, item: Label) -> ConfigOp:
    pairs = [(at.expand(name), at.expand(value)) for name, value in item.pairs]
    labels = dict(at.state.config.config.get("Labels") or {}) | dict(pairs)
    return at.config("LABEL " + " ".join(f"{name}={value}" for name, value in pairs), Labels=labels)


def _shell_form(at: _Lowering, words: tuple[str, ...], exec_form: bool) -> list[str]:
    return list(words) if exec_form else [*at.state.shell, *words]


def _cmd(at: _Lowering, item: Cmd) -> ConfigOp:
    return at.config(item.original, Cmd=_shell_form(at, item.words, item.exec_form) if item.words else None)


def _entrypoint(at: _Lowering, item: Entrypoint) -> ConfigOp:
    words = _shell_form(at, item.words, item.exec_form) if item.words else None
    # An inherited CMD was meant for another entry point.
    return at.config(item.original, Entrypoint=words, Cmd=None)


def _run(at: _Lowering, item: Run) -> RunOp:
    if item.mounts:
        raise at.unsupported("--mount")
    if item.network == "host":
        raise at.unsupported("--network=host")
    if item.security != "sandbox":
        raise at.unsupported("--security")
    argv = _shell_form(at, item.words, item.exec_form)
    if item.heredocs and not item.exec_form:
        argv = _heredoc_argv(at, item)
    env = {**at.state.args, **at.state.config.environment}
    proxies = {
        name: value for name, value in at.plan.build_args.items() if name in PROXIES and name not in env
    }
    return RunOp(
        tuple(argv), tuple(env.items()), tuple(proxies.items()), at.state.workdir,
        str(at.state.config.config.get("User") or ""), item.network, _shown(item), item.location,
    )  # fmt: skip


def _heredoc_argv(at: _Lowering, item: Run) -> list[str]:
    """``RUN <<EOF`` is a script for the shell; ``RUN python3 <<EOF`` gets it as its input, from the shell."""
    text = item.words[0]
    only = item.heredocs[0]
    if len(item.heredocs) == 1 and re.fullmatch(r"<<-?[\"']?[A-Za-z0-9_.]+[\"']?", text):
        if only.content.startswith("#!"):
            raise at.unsupported("a heredoc with #!")
        return [*at.state.shell, only.content]
    bodies = "".join(f"{doc.content}{doc.name}\n" for doc in item.heredocs)
    return [*at.state.shell, f"{text}\n{bodies}"]


def _shown(item: Run) -> str:
    return (
        item.original if not item.heredocs else f"{item.original} # {item.heredocs[0].content.strip()[:200]}"
    )


def _copy(at: _Lowering, item: Copy) -> CopyOp:
    for flag in item.others:
        raise at.unsupported(f"--{flag}")
    if item.exclude:
        raise at.unsupported("--exclude")
    heredocs = {doc.name: doc for doc in item.heredocs}
    sources, documents = [], []
    for word in item.sources:
        match = re.fullmatch(r"<<-?[\"']?([A-Za-z_][A-Za-z0-9_.]*)[\"']?", word)
        if match and match[1] in heredocs:
            doc = heredocs[match[1]]
            content = (
                expand(doc.content, at.values, at.fail, escape=at.plan.escape, raw=True)
                if doc.expand
                else doc.content
            )
            documents.append((doc.name, content))
            continue
        source = at.expand(word)
        if item.is_add and re.match(r"(https?://|git@|git://|ssh://)", source):
            raise at.unsupported("ADD from a URL")
        sources.append(source)
    dest = at.expand(item.dest)
    absolute = posixpath.normpath(posixpath.join(at.state.workdir, dest))
    if dest.endswith(("/", "/.")) or dest == ".":
        absolute = absolute.rstrip("/") + "/"
    return CopyOp(
        _source(at, item), tuple(sources), absolute, at.expand(item.chown), at.expand(item.chmod), item.is_add,
        tuple(documents), item.original, item.location,
    )  # fmt: skip


def _source(at: _Lowering, item: Copy) -> FromContext | FromStage | FromImage:
    if not item.from_:
        return FromContext()
    stage = stage_of(item.from_, at.plan.names, at.stage)
    if stage is not None:
        return FromStage(stage)
    try:
        return FromImage(Reference.parse(at.expand(item.from_)))
    except Invalid as error:
        raise DockerfileError(error.message, item.location, word=item.from_) from error


def _workdir(at: _Lowering, item: Workdir) -> WorkdirOp:
    path = posixpath.normpath(posixpath.join(at.state.workdir, at.expand(item.path)))
    state = replace(at.state, config=at.state.config.with_config(WorkingDir=path))
    return WorkdirOp(state, path, f"WORKDIR {path}", item.location)


def _user(at: _Lowering, item: User) -> ConfigOp:
    user = at.expand(item.user)
    return at.config(f"USER {user}", User=user)


def _expose(at: _Lowering, item: Expose) -> ConfigOp:
    ports = dict(at.state.config.config.get("ExposedPorts") or {})
    for word in (part for text in item.ports for part in at.words(text)):
        match = _PORT.fullmatch(word)
        if match is None or not 0 < int(match[1]) < 65536 or int(match[2] or match[1]) > 65535:
            raise at.fail(f"not a port: {word!r}")
        for port in range(int(match[1]), int(match[2] or match[1]) + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    return at.config(f"EXPOSE {' '.join(item.ports)}", ExposedPorts=ports)


def _volume(at: _Lowering, item: Volume) -> ConfigOp:
    volumes = dict(at.state.config.config.get("Volumes") or {})
    for path in item.paths:
        volumes[at.expand(path)] = {}
    return at.config(item.original, Volumes=volumes)


def _stopsignal(at: _Lowering, item: Stopsignal) -> ConfigOp:
    signal = at.expand(item.signal)
    if not re.fullmatch(r"(SIG)?[A-Z0-9+-]+|\d{1,2}", signal):
        raise at.fail(f"not a signal: {signal!r}")
    return at.config(f"STOPSIGNAL {signal}", StopSignal=signal)


def _healthcheck(at: _Lowering, item: Healthcheck) -> ConfigOp:
    if not item.test:
        return at.config(item.original, Healthcheck={"Test": ["NONE"]})
    test = ["CMD", *item.test] if item.exec_form else ["CMD-SHELL", item.test[0]]
    check: dict[str, Any] = {"Test": test}
    durations = (
        ("Interval", item.interval), ("Timeout", item.timeout), ("StartPeriod", item.start_period),
        ("StartInterval", item.start_interval),
    )  # fmt: skip
    for name, text in durations:
        if text:
            check[name] = _nanoseconds(at, text)
    if item.retries:
        if not item.retries.isdigit():
            raise at.fail(f"not a number of retries: {item.retries!r}")
        check["Retries"] = int(item.retries)
    return at.config(item.original, Healthcheck=check)


def _nanoseconds(at: _Lowering, text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise at.fail(f"not a duration: {text!r}, e.g. 30s or 1m30s")
    return int(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def _maintainer(at: _Lowering, item: Maintainer) -> ConfigOp:
    config = replace(at.state.config, author=item.author)
    return ConfigOp(replace(at.state, config=config), item.original, item.location)


def _onbuild(at: _Lowering, item: Onbuild) -> ConfigOp:
    triggers = [*(at.state.config.config.get("OnBuild") or []), item.trigger]
    return at.config(item.original, OnBuild=triggers)


def _from(at: _Lowering, item: From) -> ConfigOp:
    raise at.fail("FROM cannot stand inside a stage")


_LOWERINGS: Mapping[type, Callable[[_Lowering, Any], Operation]] = {
    Arg: _arg,
    Cmd: _cmd,
    Copy: _copy,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    From: _from,
    Healthcheck: _healthcheck,
    Label: _label,
    Maintainer: _maintainer,
    Onbuild: _onbuild,
    Run: _run,
    Shell: lambda at, item: at.config(item.original, Shell=list(item.words)),
    Stopsignal: _stopsignal,
    User: _user,
    Volume: _volume,
    Workdir: _workdir,
}
