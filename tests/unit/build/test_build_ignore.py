"""``.dockerignore``: the documented cases, and an oracle that follows the rules one character at a time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.build.ignore import IgnoreFile
from slipway.errors import Invalid


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("node_modules", ["node_modules", "node_modules/a/b"], ["x/node_modules", "node_modules2"]),
        ("/node_modules", ["node_modules"], ["x/node_modules"]),
        ("./a//b/../c/", ["a/c", "a/c/d"], ["a/b", "c"]),
        ("../a", [], ["a"]),
        ("/../a", ["a"], []),
        (".", [], ["a"]),
        ("/", [], ["a"]),
        ("*", ["a", "a/b", ".git"], []),
        ("*.md", ["a.md", "a.md/x"], ["d/a.md", "amd"]),
        ("*/*.md", ["d/a.md"], ["a.md", "d/e/a.md"]),
        ("*/temp*", ["a/temporary.txt", "b/temp"], ["temp", "a/b/temp"]),
        ("temp?", ["tempa", "tempb/x"], ["temp", "tempab", "temp/"]),
        ("**/*.go", ["a.go", "x/a.go", "x/y/a.go"], ["a.gox"]),
        ("**/foo/bar", ["foo/bar", "x/foo/bar", "foo/bar/y"], ["foo/x/bar"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b/z"], ["b", "a"]),
        ("a/**", ["a/x", "a/x/y"], ["a", "ab"]),
        ("**", ["a", "a/b"], []),
        ("**/", ["a", "a/b"], []),
        ("**foo", ["foo", "xfoo", "a/xfoo"], ["foox"]),
        ("foo**", ["foo", "foobar", "foo/x"], ["xfoo"]),
        ("a**b", ["ab", "a/b", "ax/y/b"], ["axb"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx"], ["ax", "/x"]),
        ("[!a]x", ["!x", "ax"], ["bx"]),  # no negation in Go
        ("arr[[]0].txt", ["arr[0].txt"], ["arr0.txt"]),
        ("[\\]]x", ["]x"], ["x"]),
        ("[a&&b||c~~d]", ["&", "|", "~", "a"], ["e"]),
        ("[z-a]", [], ["a", "z"]),
        ("\\*", ["*"], ["a"]),
        ("a\\b", ["ab"], ["a\\b"]),
        ("a.b+(c)|$^", ["a.b+(c)|$^"], ["axb+(c)|$^"]),
        (" a b ", ["a b"], ["a"]),
        ("été", ["été/x"], ["ete"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    rules = IgnoreFile.parse(pattern)
    assert [path for path in yes if not rules.matches(path)] == []
    assert [path for path in no if rules.matches(path)] == []


def test_comments_and_blank_lines() -> None:
    rules = IgnoreFile.parse("\ufeff# a\n\n   \n # b\r\nc\r\n")
    assert [rules.matches(path) for path in ("a", "# b", "c")] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("*.md\n!README.md", {"a.md": True, "README.md": False}),
        ("*.md\n!README*.md\nREADME-secret.md", {"README-secret.md": True, "README.md": False, "x.md": True}),
        ("*.md\nREADME-secret.md\n!README*.md", {"README-secret.md": False, "x.md": True}),
        ("*\n!src", {"src/a": False, "a": True, "src": False}),
        ("dir\n!dir/keep", {"dir/keep": False, "dir/keep/x": False, "dir/x": True, "dir": True}),
        ("! a", {"a": False}),
        ("a\n!/a", {"a": False}),
    ],
)
def test_the_last_rule_that_matches_decides(text: str, verdicts: dict[str, bool]) -> None:
    rules = IgnoreFile.parse(text)
    assert {path: rules.matches(path) for path in verdicts} == verdicts


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("node_modules", True),
        ("node_modules\n!README.md", True),  # no exception inside: nobody need look
        ("node_modules\n!node_modules/keep", False),
        ("node_modules\n!**/keep", False),
        ("node_modules\n!*/keep", False),
        ("node_modules\n!other/keep", True),
        ("*\n!node_modules", False),
    ],
)
def test_a_directory_is_looked_into_only_for_exceptions(text: str, hidden: bool) -> None:
    assert IgnoreFile.parse(text)("node_modules", True) is hidden


@pytest.mark.parametrize(
    "line", ["!", "! ", "[", "a[", "[]", "[]a]", "[a-]", "[-a]", "a\\", "[a", "x/**y[**"]
)
def test_malformed_patterns_have_a_line(line: str) -> None:
    with pytest.raises(Invalid) as caught:
        IgnoreFile.parse(f"ok\n{line}\n")
    assert caught.value.message.startswith(".dockerignore:2: ")


def test_hostile_patterns_end_soon() -> None:
    began = time.thread_time()
    assert not IgnoreFile.parse("*a" * 60 + "b").matches("a" * 255)
    assert not IgnoreFile.parse("**/a/" * 60 + "b").matches("a/" * 500 + "a")
    assert not IgnoreFile.parse("**/*a*/" * 60 + "b").matches("aaa/" * 500 + "a")
    with pytest.raises(Invalid, match="more than 4"):
        IgnoreFile.parse("a**" * 50)
    assert time.thread_time() - began < 2


# The oracle


def part_matches(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(part_matches(pattern[1:], name[index:]) for index in range(len(name) + 1))
    if not name:
        return False
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        found = name[0] in inside.removeprefix("^")
        return found != inside.startswith("^") and part_matches(rest, name[1:])
    return pattern[0] in ("?", name[0]) and part_matches(pattern[1:], name[1:])


def path_matches(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(path_matches(pattern[1:], path[index:]) for index in range(len(path) + 1))
    return bool(path) and part_matches(pattern[0], path[0]) and path_matches(pattern[1:], path[1:])


def verdict(lines: list[tuple[bool, list[str]]], path: str) -> bool:
    excluded = False
    parts = path.split("/")
    for keeps, pattern in lines:
        if any(path_matches(pattern, parts[: count + 1]) for count in range(len(parts))):
            excluded = not keeps
    return excluded


part = st.one_of(
    st.sampled_from(["**", "*", "a", "b", "ab", "[ab]", "[^a]"]),
    st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[^b]", "."]), min_size=1, max_size=4)
    .map("".join)
    .filter(lambda text: "**" not in text and text not in (".", "..")),
)
line = st.tuples(st.booleans(), st.lists(part, min_size=1, max_size=4))
paths = st.lists(st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda name: name not in (".", "..")),
                 min_size=1, max_size=4).map("/".join)  # fmt: skip


@given(st.lists(line, min_size=1, max_size=4), paths)
@example([(False, ["**", "**", "a"])], "b/a")
def test_the_oracle_agrees(lines: list[tuple[bool, list[str]]], path: str) -> None:
    text = "\n".join(("!" if keeps else "") + "/".join(pattern) for keeps, pattern in lines)
    rules = IgnoreFile.parse(text)
    assert rules.matches(path) == verdict(lines, path)
    if not rules.matches(path) and "/" in path:
        # Nothing that is there may be below a directory that is not.
        parents = path.split("/")[:-1]
        assert not any(rules("/".join(parents[: count + 1]), True) for count in range(len(parents)))


@given(st.text(alphabet="ab*?[]^-!\\/.# \n", max_size=30), paths)
def test_any_text_is_rules_or_refused(text: str, path: str) -> None:
    try:
        rules = IgnoreFile.parse(text)
    except Invalid:
        return
    assert rules(path, True) <= rules(path, False)
