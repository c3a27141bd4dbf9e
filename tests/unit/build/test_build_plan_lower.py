"""Instructions as operations: the traps of the language, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from slipway.build.dockerfile import DockerfileError, parse
from slipway.build.plan import (
    ConfigOp,
    CopyOp,
    FromContext,
    FromImage,
    FromStage,
    Operation,
    RunOp,
    StageState,
    WorkdirOp,
    lower,
    plan,
)
from slipway.oci import ImageConfig, Platform, Reference

AMD = Platform("linux", "amd64")
BASE = {"Env": ["PATH=/bin", "B=base"], "Cmd": ["old"], "WorkingDir": "", "Labels": {"l": "base"}}


class Carried:
    """A whole build carried out in thought: the operations of every stage, and the states they end with."""

    def __init__(self, text: str, **args: str) -> None:
        self.plan = plan(parse(text), target=None, build_args=args, platform=AMD)
        self.operations: dict[int, list[Operation]] = {}
        self.states: dict[int, StageState] = {}
        for index, stage in self.plan.stages.items():
            start = StageState(ImageConfig(AMD, config=dict(BASE)))
            state = self.states[stage.base] if isinstance(stage.base, int) else start
            self.operations[index] = []
            for instruction in stage.instructions:
                operation = lower(instruction, state, self.plan, index)
                state = operation.state if isinstance(operation, ConfigOp | WorkdirOp) else state
                self.operations[index].append(operation)
            self.states[index] = state

    @property
    def last(self) -> Operation:
        return self.operations[self.plan.target][-1]

    @property
    def run(self) -> RunOp:
        assert isinstance(self.last, RunOp)
        return self.last

    @property
    def env(self) -> dict[str, str]:
        return dict(self.run.env)

    @property
    def copy(self) -> CopyOp:
        assert isinstance(self.last, CopyOp)
        return self.last

    @property
    def config(self) -> Mapping[str, Any]:
        return self.states[self.plan.target].config.config


def env_of(text: str, **args: str) -> dict[str, str]:
    """What a RUN at the end of ``text`` sees, but for the base's."""
    env = Carried(text + "\nRUN x", **args).env
    return {name: value for name, value in env.items() if name not in ("PATH", "B")}


# ARG and ENV


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("FROM a\nARG x=1", {}, {"x": "1"}),
        ("FROM a\nARG x=1", {"x": "2"}, {"x": "2"}),
        ("FROM a\nARG x", {}, {}),
        ("FROM a\nARG x", {"x": ""}, {"x": ""}),
        ("FROM a", {"x": "2"}, {}),  # not declared
        ("ARG x=1\nFROM a", {}, {}),  # a global one is for FROM
        ("ARG x=1\nFROM a\nARG x", {}, {"x": "1"}),
        ("ARG x=1\nFROM a\nARG x=2", {}, {"x": "2"}),
        ("ARG x=1\nFROM a\nARG x", {"x": "3"}, {"x": "3"}),
        ("ARG x=1\nARG y=$x$x\nFROM a\nARG y", {"x": "3"}, {"y": "33"}),
        ("FROM a AS p\nARG x=1\nFROM p", {}, {"x": "1"}),  # children inherit
        ("FROM a AS p\nARG x=1\nFROM p AS q\nFROM q\nARG y=$x", {}, {"x": "1", "y": "1"}),
        ("FROM a AS p\nARG x=1\nFROM b\nCOPY --from=p / /", {}, {}),  # siblings do not
        ("FROM a AS p\nARG x=1\nFROM p\nARG x", {}, {"x": "1"}),
        ("FROM a\nARG x=1\nENV x=2", {}, {"x": "2"}),
        ("FROM a\nENV x=2\nARG x=1", {}, {"x": "2"}),  # ENV beats ARG in any order
        ("FROM a\nENV x=2\nARG x=1", {"x": "3"}, {"x": "2"}),
        ("FROM a\nENV x=2\nARG x=1\nARG y=$x", {}, {"x": "2", "y": "2"}),
        ("FROM a\nARG x=1 y=$x", {}, {"x": "1", "y": "1"}),  # one ARG, in order
        ("FROM a\nENV x=1\nENV x=2 y=$x", {}, {"x": "2", "y": "1"}),  # one ENV, at once
        ("FROM a\nARG x='a b' y=\"$x\"", {}, {"x": "a b", "y": "a b"}),
        ("FROM a\nARG x=$B", {}, {"x": "base"}),
        ("FROM a\nENV x=${B}s y=${n:-d}", {}, {"x": "bases", "y": "d"}),
        ("FROM a\nENV x a  \"b\" $B", {}, {"x": "a  b base"}),  # the old form
        ("FROM a\nENV x=\\$B", {}, {"x": "$B"}),
        ("FROM a\nENV ${B}_x=1", {}, {"base_x": "1"}),
        ("FROM a", {"TARGETARCH": "x"}, {}),
        ("FROM a\nARG TARGETARCH TARGETOS TARGETVARIANT TARGETPLATFORM", {},
         {"TARGETARCH": "amd64", "TARGETOS": "linux", "TARGETVARIANT": "", "TARGETPLATFORM": "linux/amd64"}),
        ("FROM a\nARG BUILDPLATFORM", {}, {"BUILDPLATFORM": str(Platform.host())}),
        ("FROM a\nARG TARGETSTAGE", {}, {"TARGETSTAGE": "default"}),
        ("ARG TARGETARCH=mine\nFROM a\nARG TARGETARCH", {}, {"TARGETARCH": "mine"}),
        ("FROM a\nARG x=${y:?no}", {"x": "1"}, {"x": "1"}),  # a default nobody needs is not looked at
    ],
)  # fmt: skip
def test_scopes(text: str, args: dict[str, str], expected: dict[str, str]) -> None:
    assert env_of(text, **args) == expected


def test_proxies_reach_a_run_but_not_its_key() -> None:
    with_proxy = Carried("FROM a\nRUN x", HTTP_PROXY="http://p", no_proxy="*").run
    assert with_proxy.unkeyed == (("HTTP_PROXY", "http://p"), ("no_proxy", "*"))
    assert with_proxy.definition() == Carried("FROM a\nRUN x").run.definition()
    declared = Carried("FROM a\nARG HTTP_PROXY\nRUN x", HTTP_PROXY="http://p").run
    assert declared.unkeyed == ()
    assert ("HTTP_PROXY", "http://p") in declared.env
    assert declared.definition() != with_proxy.definition()


def test_an_argument_changes_only_the_runs_behind_it() -> None:
    one, two = (Carried("FROM a\nRUN x\nARG v\nRUN x", v=value).operations[0] for value in "12")
    assert one[0].definition() == two[0].definition()
    assert one[2].definition() != two[2].definition()


def test_values_of_arguments_stay_out_of_the_history() -> None:
    (operation,) = Carried("FROM a\nARG token", token="secret").operations[0]
    assert isinstance(operation, ConfigOp)
    assert not operation.recorded
    assert "secret" not in operation.created_by


def test_doubling_variables_are_stopped() -> None:
    text = "FROM a\nENV a0=" + "x" * 1000 + "".join(f"\nENV a{n + 1}=$a{n}$a{n}" for n in range(60))
    with pytest.raises(DockerfileError, match=r"longer than|larger than"):
        Carried(text)


# RUN


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("RUN a $B", ["/bin/sh", "-c", "a $B"]),  # the shell expands, not we
        ('RUN ["a", "$B"]', ["a", "$B"]),
        ('SHELL ["/bin/bash", "-ec"]\nRUN a', ["/bin/bash", "-ec", "a"]),
        ("RUN <<EOF\na\nb\nEOF", ["/bin/sh", "-c", "a\nb\n"]),
        ("RUN <<-EOF\n\ta\n\tEOF", ["/bin/sh", "-c", "a\n"]),
        ("RUN cat <<A <<-B\na\nA\n\tb\n\tB", ["/bin/sh", "-c", "cat <<A <<-B\na\nA\n\tb\nB\n"]),
        ("RUN <<E bash\na\nE", ["/bin/sh", "-c", "<<E bash\na\nE\n"]),
        ("RUN <<E>f\na\nE", ["/bin/sh", "-c", "<<E>f\na\nE\n"]),
        ("RUN <<'E 1'\na\nE 1", ["/bin/sh", "-c", "a\n"]),
        ("RUN bash <<EOF\n#!x\nEOF", ["/bin/sh", "-c", "bash <<EOF\n#!x\nEOF\n"]),
    ],
)
def test_commands(text: str, argv: list[str]) -> None:
    assert list(Carried(f"FROM a\n{text}").run.argv) == argv


def test_a_run_knows_where_and_who() -> None:
    found = Carried("FROM a\nWORKDIR /w\nUSER u:g\nRUN --network=none x").run
    assert (found.cwd, found.user, found.network) == ("/w", "u:g", "none")
    assert Carried("FROM a\nRUN x").run.cwd == "/"


def test_created_by() -> None:
    text = "FROM a\nENV x=$B y='1 2'\nWORKDIR w\nUSER $B\nEXPOSE $n 80\nCOPY --chown=$B $B/ .\nRUN <<E\nhi\nho\nE"
    found = [operation.created_by for operation in Carried(text).operations[0]]
    assert found == [
        "ENV x=base y=1 2", "WORKDIR /w", "USER base", "EXPOSE 80", "COPY --chown=base base/ .", "RUN <<E (hi…)",
    ]  # fmt: skip


# COPY and ADD


@pytest.mark.parametrize(
    ("dest", "expected"),
    [
        ("/a", "/a"), ("/a/", "/a/"), ("a", "/w/a"), ("a/", "/w/a/"), (".", "/w/"), ("./", "/w/"), ("a/.", "/w/a/"),
        ("../x", "/x"), ("../../../x/", "/x/"), ("/", "/"), ("//a//b", "/a/b"), ("$n", "/w/"), ("$B/", "/w/base/"),
        ("..", "/"),
    ],
)  # fmt: skip
def test_destinations(dest: str, expected: str) -> None:
    assert Carried(f"FROM a\nWORKDIR /w\nCOPY x {dest}").copy.dest == expected


def test_copy_fields() -> None:
    found = Carried(
        'FROM a AS s\nFROM b\nCOPY --from=s --chown=$B:1 --chmod=u+x-w,go= --link ["$B x", "*.c", "/d/"]'
    ).copy
    assert found.source == FromStage(0)
    assert found.sources == ("base x", "*.c")
    assert (found.chown, found.chmod, found.unpack, found.link) == ("base:1", "u+x,u-w,go=", False, True)
    assert Carried("FROM a\nCOPY --from=r.io/x:1 a b").copy.source == FromImage(Reference("x", "r.io", "1"))
    assert Carried("FROM a\nCOPY a b").copy.source == FromContext()


@pytest.mark.parametrize(
    ("flags", "unpack"),
    [("ADD", True), ("ADD --unpack", True), ("ADD --unpack=false", False), ("COPY", False)],
)
def test_only_add_unpacks(flags: str, unpack: bool) -> None:
    assert Carried(f"FROM a\n{flags} x y").copy.unpack is unpack


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("755", "0755"), ("0", "0000"), ("04755", "4755"), ("u=rwX,go=rX", "u=rwX,go=rX"), ("+x", "+x")],
)
def test_modes(mode: str, expected: str) -> None:
    assert Carried(f"FROM a\nCOPY --chmod={mode} x y").copy.chmod == expected


def test_heredocs_are_copied_with_their_variables() -> None:
    text = "FROM a\nCOPY <<one <<'two' x <<-three /d/\n$B \\$B \"q\" \\n\none\n$B\ntwo\n\t${n:-d}\n\tthree"
    found = Carried(text).copy
    assert found.heredocs == (
        ("one", '$B $B "q" \\n\n'.replace("$B $B", "base $B")),
        ("two", "$B\n"),
        ("three", "d\n"),
    )
    assert found.sources == ("x",)


# The configuration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CMD a $B", {"Cmd": ["/bin/sh", "-c", "a $B"]}),
        ('CMD ["a"]', {"Cmd": ["a"]}),
        ("CMD []", {"Cmd": None}),
        ('ENTRYPOINT ["e"]', {"Entrypoint": ["e"], "Cmd": None}),  # the base's CMD was for another one
        ('CMD ["a"]\nENTRYPOINT ["e"]', {"Entrypoint": ["e"], "Cmd": ["a"]}),  # one of the same stage stays
        ('SHELL ["s"]\nENTRYPOINT e', {"Entrypoint": ["s", "e"], "Shell": ["s"]}),
        ("LABEL a=$B \"b c\"='d $B'", {"Labels": {"l": "base", "a": "base", "b c": "d $B"}}),
        ("EXPOSE 80 53/UDP 8000-8002 $B_PORT", {"ExposedPorts": {
            "80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}}),
        ('ENV p="1 2/udp"\nEXPOSE $p', {"ExposedPorts": {"1/tcp": {}, "2/udp": {}}}),  # values are split
        ("VOLUME /a $B", {"Volumes": {"/a": {}, "base": {}}}),
        ('VOLUME ["/a b"]', {"Volumes": {"/a b": {}}}),
        ("USER ${B}:1", {"User": "base:1"}),
        ("WORKDIR a\nWORKDIR ../b//./c/\nWORKDIR $B", {"WorkingDir": "/b/c/base"}),
        ("WORKDIR //a", {"WorkingDir": "/a"}),
        ("STOPSIGNAL SIG${n:-RTMIN+3}", {"StopSignal": "SIGRTMIN+3"}),
        ("STOPSIGNAL 9", {"StopSignal": "9"}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        ("HEALTHCHECK --interval=5s --retries=2 CMD a b",
         {"Healthcheck": {"Test": ["CMD-SHELL", "a b"], "Interval": 5 * 10**9, "Retries": 2}}),
        ('HEALTHCHECK CMD ["a"]', {"Healthcheck": {"Test": ["CMD", "a"]}}),
        ("ONBUILD RUN a\nONBUILD COPY . .", {"OnBuild": ["RUN a", "COPY . ."]}),
        ("ENV B=new C=1", {"Env": ["PATH=/bin", "B=new", "C=1"]}),  # replaced in its place
    ],
)  # fmt: skip
def test_configuration(text: str, expected: dict[str, Any]) -> None:
    found = Carried(f"FROM a\n{text}").config
    assert {name: found.get(name) for name in expected} == expected


def test_maintainer_is_the_author() -> None:
    assert Carried("FROM a\nMAINTAINER m").states[0].config.author == "m"


def test_a_cmd_of_the_parent_stage_is_inherited_and_forgotten() -> None:
    assert Carried('FROM a AS p\nCMD ["x"]\nFROM p\nENTRYPOINT ["e"]').config.get("Cmd") is None
    assert Carried('FROM a AS p\nCMD ["x"]\nFROM p').config["Cmd"] == ["x"]


def test_workdir_makes_a_directory_of_the_user() -> None:
    found = Carried("FROM a\nUSER u\nWORKDIR x").last
    assert isinstance(found, WorkdirOp)
    assert (found.path, found.user) == ("/x", "u")


# ONBUILD


def test_triggers_run_in_the_child_and_not_in_the_grandchild() -> None:
    text = "FROM a AS p\nONBUILD ENV x=1\nONBUILD RUN t\nENV x=0\nFROM p AS c\nENV y=$x\nFROM c\nRUN z"
    found = Carried(text)
    assert [type(item).__name__ for item in found.operations[1]] == [
        "ConfigOp",
        "ConfigOp",
        "RunOp",
        "ConfigOp",
    ]
    assert found.states[0].config.config["OnBuild"] == ["ENV x=1", "RUN t"]
    assert "OnBuild" not in found.states[1].config.config
    assert [type(item).__name__ for item in found.operations[2]] == ["RunOp"]
    assert (found.env["x"], found.env["y"]) == ("1", "1")


def test_a_stage_that_nothing_needs_is_no_source_for_a_trigger_of_an_image() -> None:
    build = plan(parse("FROM a AS x\nFROM b"), target=None, build_args={}, platform=AMD)
    trigger = parse("FROM scratch\nCOPY --from=x a b", "ONBUILD").stages[0].instructions[0]
    with pytest.raises(DockerfileError, match="trigger of the base image only"):
        lower(trigger, StageState(ImageConfig(AMD)), build, 1)


# Refusals


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("RUN --device=required x", "2:5", "a device needs a name"),
        ("RUN --device=a,b x", "2:5", "a device has no 'b'"),
        ("RUN --device=a,required=maybe x", "2:5", "required is true or false"),
        ("RUN --mount=type=tmpfs,target=/ x", "2:5", "cannot cover the whole root"),
        ("ADD https://e.org/ /d/", "2:5", "has no file name"),
        ("ADD https://u:p@e.org/x /d", "2:5", "must not hold a password"),
        ("ADD --checksum=sha256:x a b", "2:5", "--checksum is for one address"),
        ("RUN --mount=type=$B,target=/c x", "2:1", "not a mount type: 'base'"),
        ("COPY --chmod=$B a b", "2:6", "not a mode: 'base'"),
        ("COPY --chmod=8 a b", "2:6", "not a mode: '8'"),
        ("COPY --chmod=10000 a b", "2:6", "not a mode"),
        ("COPY --chown=:g a b", "2:6", "names no user"),
        ("COPY --chown=$n a b", "2:6", "names no user"),
        ("COPY $n b", "2:6", "the source '$n' is empty"),
        ("COPY --from=A a b", "2:13", "not an image name"),
        ('COPY "a b" c', "2:6", "a double quote is not closed"),
        ("EXPOSE 0", "2:8", "not a port: '0'"),
        ("EXPOSE 80/xyz", "2:8", "not a port"),
        ("EXPOSE 9-8", "2:8", "not a port"),
        ("EXPOSE 65536", "2:8", "not a port"),
        ("STOPSIGNAL SIGFOO", "2:12", "not a signal: 'SIGFOO'"),
        ("STOPSIGNAL 65", "2:12", "not a signal"),
        ("USER $n", "2:6", "names nobody"),
        ("WORKDIR $n", "2:9", "is empty"),
        ("VOLUME $n", "2:1", "is empty"),
        ('ENV a=1 \\\n  b="${n:?set n}"', "3:5", "n: set n"),
        ("ENV a='x", "2:7", "a single quote is not closed"),
        ("LABEL a=${", "2:9", "is not closed"),
    ],
)
def test_refusals_have_a_place(text: str, place: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        Carried(f"FROM a\n{text}")
    assert caught.value.message.startswith(f"Dockerfile:{place}: ")
    assert message in caught.value.message


def test_quotes_in_copy_hint_at_the_json_form() -> None:
    with pytest.raises(DockerfileError) as caught:
        Carried('FROM a\nCOPY "a b" c')
    assert "JSON form" in caught.value.hint


# Keys


def test_definitions_tell_apart_what_differs() -> None:
    base = Carried('FROM a\nENV x=1\nRUN ["ab", "c"]').run
    other = [
        replace(base, argv=("a", "bc")), replace(base, env=(*base.env, ("y", ""))), replace(base, cwd="/x"),
        replace(base, user="u"), replace(base, network="none"), replace(base, security="insecure"),
        replace(base, files=(("/f", ""),)),
    ]  # fmt: skip
    assert len({base.definition(), *(item.definition() for item in other)}) == len(other) + 1
    same = replace(base, env=base.env[::-1], created_by="other", unkeyed=(("p", "q"),))
    assert same.definition() == base.definition()


def test_a_place_in_the_file_is_no_part_of_a_definition() -> None:
    one, two = Carried("FROM a\nRUN x").run, Carried("\n\nFROM a\n\n\nRUN x").run
    assert one.location != two.location
    assert one.definition() == two.definition()
