"""Interpolation, units and environment files: tables and properties."""

from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.compose import Port
from slipway.compose.envfile import parse_env
from slipway.compose.interpolate import interpolate
from slipway.compose.units import amount, duration, ports, size

VALUES = {"SET": "value", "EMPTY": ""}
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_characters="${}", exclude_categories=["Cs"]), max_size=20)
# The first draw builds tables of all characters; how long that takes says nothing about the input.
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FORMS = {
    "a $SET b": "a value b",
    "${SET}x": "valuex",
    "$NONE.": ".",
    "$$SET $$": "$SET $",
    "${SET:-d}": "value",
    "${EMPTY:-d}": "d",
    "${EMPTY-d}": "",
    "${NONE-d}": "d",
    "${NONE:-${EMPTY:-${SET}}}": "value",
    "${NONE:-a}b}": "ab}",
    "${NONE:-$${x}": "${x",
    "${SET:+alt}": "alt",
    "${EMPTY:+alt}": "",
    "${EMPTY+alt}": "alt",
    "${NONE+alt}": "",
    "${SET:?no}": "value",
    "${EMPTY?no}": "",
    "${NONE:-a:-b}": "a:-b",
}


@pytest.mark.parametrize(("text", "result"), FORMS.items())
def test_forms_of_interpolation(text: str, result: str) -> None:
    assert interpolate(text, VALUES) == result


@pytest.mark.parametrize(
    "text", ["$", "a $ b", "${", "${}", "${1}", "${SET", "${SET!x}", "${NONE?}", "${EMPTY:?no}", "$1"]
)
def test_wrong_interpolation(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        interpolate(text, VALUES)


@QUICK
@given(st.text(max_size=200))
def test_escaped_text_comes_back(text: str) -> None:
    assert interpolate(text.replace("$", "$$"), {}) == text


@QUICK
@given(
    st.text(alphabet="${}:-+?AB ", max_size=60), st.dictionaries(st.sampled_from("AB"), st.text(max_size=5))
)
def test_interpolation_ends_or_says_why(text: str, values: dict[str, str]) -> None:
    try:
        interpolate(text, values)
    except ValueError:
        return


@QUICK
@given(NAMES, PLAIN, PLAIN, st.sampled_from([None, "", "x"]))
def test_operators_agree_with_their_meaning(name: str, word: str, around: str, value: str | None) -> None:
    values = {} if value is None else {name: value}

    def result(operator: str) -> str:
        return interpolate(f"{around}${{{name}{operator}{word}}}{around}", values)[
            len(around) :
        ].removesuffix(around)

    if around:
        return
    assert result(":-") == (value or word)
    assert result("-") == (word if value is None else value)
    assert result(":+") == (word if value else "")
    assert result("+") == ("" if value is None else word)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("1h5m", 3900),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("20us", 2e-5),
        ("0", 0),
        ("1d", 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@QUICK
@given(st.tuples(*(st.integers(0, 999) for _ in range(4))))
def test_a_duration_is_the_sum_of_its_parts(parts: tuple[int, int, int, int]) -> None:
    hours, minutes, seconds, millis = parts
    found = duration(f"{hours}h{minutes}m{seconds}s{millis}ms")
    assert found == pytest.approx(hours * 3600 + minutes * 60 + seconds + millis / 1000)


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("1b", 1), ("2k", 2048), ("1.5m", 1572864), ("1 GiB", 1 << 30)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@QUICK
@given(st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["", "127.0.0.1", "[::1]"]))
def test_ports_say_what_they_hold(target: int, published: int, host: str) -> None:
    text = f"{host}:{published}:{target}" if host else f"{published}:{target}"
    assert ports(text) == (Port(target, published, "tcp", host.strip("[]")),)
    assert ports(f"{text}/tcp") == ports(text)


def test_ranges_of_ports_pair_up() -> None:
    assert ports("3000-3001") == (Port(3000), Port(3001))
    assert ports("90-91:80-81") == (Port(80, 90), Port(81, 91))
    assert ports("127.0.0.1::80") == (Port(80, 0, "tcp", "127.0.0.1"),)
    for text in ("90-92:80-81", "90-80", "1-65535", "300.1.1.1:80:80", "80/sctp", "80:"):
        with pytest.raises(ValueError, match=r"."):
            ports(text)


@QUICK
@given(st.text(max_size=30) | st.text(string.digits + ".:-/[]smhkgtcpude", max_size=30))
def test_units_take_any_text(text: str) -> None:
    """They raise nothing but ``ValueError``, and never give a number that is none."""
    for parse in (duration, size, amount):
        try:
            assert parse(text) >= 0
        except ValueError:
            continue
    try:
        assert all(0 < port.target < 65536 for port in ports(text))
    except ValueError:
        return


ENV = r"""
# a comment
A=1
export B = two words   # not this
C='as $A is # here'
D="one\ntwo \$A $A \\ \""
E=
OUTSIDE
NOWHERE
F="two
lines"
G=a$
H=a#b
"""


def test_environment_files() -> None:
    assert parse_env(ENV, {"OUTSIDE": "out"}) == {
        "A": "1", "B": "two words", "C": "as $A is # here", "D": 'one\ntwo $A 1 \\ "', "E": "", "OUTSIDE": "out",
        "F": "two\nlines", "G": "a$", "H": "a#b",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["=1", "A='x", 'B="x', "A=1\n'", "A=${"])
def test_wrong_environment_files_name_the_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d"):
        parse_env(text, {})


@QUICK
@given(st.text(max_size=100) | st.text("AB='\"$\\# \n\r{}", max_size=60))
def test_environment_files_of_any_text(text: str) -> None:
    try:
        parse_env(text, {"A": "$B"})
    except ValueError:
        return


@QUICK
@given(
    st.dictionaries(
        NAMES, st.text(st.characters(exclude_characters="'\r", exclude_categories=["Cs"]), max_size=30)
    )
)
def test_single_quotes_keep_everything(values: dict[str, str]) -> None:
    assert parse_env("".join(f"{name}='{text}'\n" for name, text in values.items()), {}) == values
