"""Variables: every form against what a shell says, and properties that hold for any text."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.build.dockerfile import expand, expand_words
from slipway.build.dockerfile.patterns import Pattern
from slipway.build.dockerfile.substitution import MAX_VALUE
from slipway.errors import Invalid

VALUES = {"a": "foo", "e": "", "path": "usr/lib/a.tar.gz", "two": "x y", "ver": "v1.2.3", "star": "a*b*c"}


def fill(text: str, **values: str) -> str:
    return expand(text, values or VALUES, Invalid)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a", "foo"),
        ("${a}", "foo"),
        ("$ab", ""),
        ("${a}b", "foob"),
        ("$a-$a", "foo-foo"),
        ("x$", "x$"),
        ("$ a", "$ a"),
        ("$%", "$%"),
        ("$1a", "a"),
        ("$$a", "a"),  # the shell's own number
        ("\\$a", "$a"),
        ("\\\\$a", "\\foo"),
        ("a\\b", "ab"),
        ("a\\", "a"),
        ("'$a'", "$a"),
        ("'a\\'", "a\\"),
        ('"$a"', "foo"),
        ('"\\$a"', "$a"),
        ('"\\a"', "\\a"),
        ('"a \\" b"', 'a " b'),
        ('"it\'s"', "it's"),
        ("'say \"x\"'", 'say "x"'),
        ("${a:-x}", "foo"),
        ("${e:-x}", "x"),
        ("${e-x}", ""),
        ("${n-x}", "x"),
        ("${n:-}", ""),
        ("${a:+x}", "x"),
        ("${e:+x}", ""),
        ("${e+x}", "x"),
        ("${n+x}", ""),
        ("${a:?no}", "foo"),
        ("${e?no}", ""),
        ("${n:-${a}}", "foo"),
        ("${n:-$a$a}", "foofoo"),
        ("${n:-${m:-${a}}}", "foo"),
        ('${n:-"}"}', "}"),
        ("${n:-\\}}", "}"),
        ("${n:-'a b'}", "a b"),
        ("${a:-${n:?never asked}}", "foo"),
        ("${path#*/}", "lib/a.tar.gz"),
        ("${path##*/}", "a.tar.gz"),
        ("${path%.*}", "usr/lib/a.tar"),
        ("${path%%.*}", "usr/lib/a"),
        ("${path#x}", "usr/lib/a.tar.gz"),
        ("${path##*}", ""),
        ("${path%%*}", ""),
        ("${path#*}", "usr/lib/a.tar.gz"),
        ("${path%*}", "usr/lib/a.tar.gz"),
        ("${ver#v}", "1.2.3"),
        ("${ver#?}", "1.2.3"),
        ("${ver%.?}", "v1.2"),
        ("${ver#[v]}", "v1.2.3"),  # brackets are no part of the language
        ("${ver#${ver%%1*}}", "1.2.3"),
        ("${star#*\\*}", "b*c"),
        ("${star##a\\*}", "b*c"),
        ('${star#"a*"}', "b*c"),
        ("${n#x}", ""),
        ("${ver/./-}", "v1-2.3"),
        ("${ver//./-}", "v1-2-3"),
        ("${ver//[0-9]/x}", "v1.2.3"),
        ("${path//\\//:}", "usr:lib:a.tar.gz"),
        ("${ver/./\\/}", "v1/2.3"),
        ("${ver/.*/!}", "v1!"),
        ("${ver//?/x}", "xxxxxx"),
        ("${ver//}/}", "v1.2.3"),
        ("${ver/x/y}", "v1.2.3"),
        ("${ver//./}", "v123"),
        ("${ver//*/x}", "x"),
        ("${star//\\*/+}", "a+b+c"),
        ("${ver/1/$a}", "vfoo.2.3"),
        ("ü$ä", "ü"),
    ],
)
def test_forms(text: str, expected: str) -> None:
    assert fill(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${n:?give n}", "n: give n"),
        ("${n?}", "n: is not set"),
        ("${e:?}", "e: is empty"),
        ("${n:?need $a}", "n: need foo"),
        ("'a", "single quote"),
        ('"a', "double quote"),
        ("${a", "nothing"),
        ("${", "not closed"),
        ("${}", "begins with no name"),
        ("${a:}", "unknown operator"),
        ("${a:/x/y}", "unknown operator"),
        ("${a^^}", "unknown operator in ${a…}: '^'"),
        ("${a:-b", "not closed"),
        ("${a/b}", "not closed"),
        ("${a.b}", "unknown operator"),
        ("${n:-" * 60, "nested more than 50"),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        fill(text)
    assert message in caught.value.message


def test_an_escape_directive_changes_quoting() -> None:
    assert expand("`$a \\$a c:\\x", VALUES, Invalid, escape="`") == "$a \\foo c:\\x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a '$a' \"${e:-x}\"", "foo 'foo' \"x\""),
        ("\\$a \\n \\\\ it's", "$a \\n \\ it's"),
        ("a \\\nb", "a b"),
        ("${n:-'x'}", "'x'"),
        ("end\\", "end\\"),
    ],
)
def test_raw_texts_keep_their_quotes(text: str, expected: str) -> None:
    assert expand(text, VALUES, Invalid, raw=True) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("$two z", ["x", "y", "z"]),
        ('"$two" z', ["x y", "z"]),
        ("a\\ b 'c d'e", ["a b", "c de"]),
        ("$e $n", []),
        ("p$two", ["px", "y"]),
        ("  ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert expand_words(text, VALUES, Invalid) == expected


# Bounds


def test_doubling_is_stopped() -> None:
    value = "x" * 1000
    with pytest.raises(Invalid, match=f"longer than {MAX_VALUE}"):
        expand("$v" * 1000, {"v": value}, Invalid)
    with pytest.raises(Invalid, match="longer"):
        expand("${v//x/$w}", {"v": value, "w": value}, Invalid)


@pytest.mark.parametrize(
    "text",
    [
        "${v##" + "*a" * 100 + "*b}",
        "${v%%b" + "a*" * 100 + "}",
        "${v//" + "*a" * 100 + "b/x}",
        "${v##*a}" * 5000,
    ],
)
def test_hostile_patterns_end_soon(text: str) -> None:
    began = time.thread_time()
    with suppress(Invalid):
        expand(text, {"v": "a" * 100_000}, Invalid)
    assert time.thread_time() - began < 5


# Properties

plain = st.text(alphabet="abcXYZ019_ .-=/", max_size=20)
names = st.sampled_from(["a", "b", "cd", "e1"])
texts = st.text(alphabet="ab{}$:-+?#%/*\\'\"` \n1é", max_size=30)


@given(texts, st.dictionaries(names, plain), st.sampled_from(["\\", "`"]), st.booleans())
def test_any_text_expands_or_is_refused(text: str, values: dict[str, str], escape: str, raw: bool) -> None:
    for call in _calls(text, values, escape, raw):
        try:
            call()
        except Invalid:
            continue


def _calls(text: str, values: dict[str, str], escape: str, raw: bool) -> list[Callable[[], object]]:
    return [
        lambda: expand(text, values, Invalid, escape=escape, raw=raw),
        lambda: expand_words(text, values, Invalid, escape=escape),
    ]


@given(st.text(max_size=50))
def test_quoted_text_stays_as_it_is(text: str) -> None:
    single = text.replace("'", "")
    assert expand(f"'{single}'", {}, Invalid) == single
    double = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    assert expand(f'"{double}"', {}, Invalid) == text


@given(st.text(max_size=30), names, st.text(max_size=30))
def test_a_value_is_taken_as_it_is(before: str, name: str, value: str) -> None:
    before = before.replace("'", "")
    assert expand(f"'{before}'${{{name}}}", {name: value}, Invalid) == before + value
    assert expand(f'"${{{name}}}"', {name: value}, Invalid) == value


def oracle(pattern: str, text: str) -> bool:
    """Whether ``pattern`` (no escapes) matches all of ``text``, the slow way."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(oracle(pattern[1:], text[index:]) for index in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and oracle(pattern[1:], text[1:])


@given(st.text(alphabet="ab*?", max_size=6), st.text(alphabet="ab", max_size=8))
def test_patterns_against_an_oracle(pattern: str, text: str) -> None:
    ends = [end for end in range(len(text) + 1) if oracle(pattern, text[:end])]
    starts = [start for start in range(len(text) + 1) if oracle(pattern, text[start:])]
    values = {"v": text}
    assert expand(f"${{v#{pattern}}}", values, Invalid) == text[min(ends, default=0) :]
    assert expand(f"${{v##{pattern}}}", values, Invalid) == text[max(ends, default=0) :]
    assert expand(f"${{v%{pattern}}}", values, Invalid) == text[: max(starts, default=len(text))]
    assert expand(f"${{v%%{pattern}}}", values, Invalid) == text[: min(starts, default=len(text))]


@given(st.text(alphabet="ab*?", min_size=1, max_size=6), st.text(alphabet="ab", max_size=8))
def test_the_first_longest_match_is_found(pattern: str, text: str) -> None:
    expected = next(
        (
            (start, end)
            for start in range(len(text))
            for end in range(len(text), start, -1)
            if oracle(pattern, text[start:end])
        ),
        None,
    )
    assert Pattern.parse(pattern).find(text, 0) == expected


forms = st.sampled_from(
    ["", ":-x", "-x", ":+y", "+y", "#a", "##*b", "%c", "%%b*", "#?", "%?b", "/a/z", "//b/q", "//a*/x"]
)


@given(
    st.lists(st.tuples(names, forms), max_size=4),
    st.dictionaries(names, st.text(alphabet="abc", max_size=6)),
)
def test_forms_as_bash_has_them(items: list[tuple[str, str]], values: dict[str, str]) -> None:
    text = "|".join(f"${{{name}{form}}}" for name, form in items)
    assert expand(text, values, Invalid) == BASH.ask(text, values)


class _Bash:
    """One bash for all examples; it reads a script for each and ends its answer with a NUL."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, text: str, values: dict[str, str]) -> str:
        if self._process is None:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        settings = "".join(f"{name}='{value}'; " for name, value in values.items())
        script = f'unset a b cd e1; {settings}printf "%s\\0" "{text}"\n'
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(script.encode())
        self._process.stdin.flush()
        out = b""
        while (byte := self._process.stdout.read(1)) != b"\0":
            assert byte, "bash ended"
            out += byte
        return out.decode()

    def close(self) -> None:
        if self._process and self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            self._process.wait()
            self._process.stdout.close()


BASH = _Bash()


@pytest.fixture(autouse=True, scope="module")
def _bash_ends() -> Iterator[None]:
    yield
    BASH.close()
