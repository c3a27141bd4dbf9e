"""Orders of versions: total for any text, and the same as the tools' own."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from slipway.registry.findings.versions import SCHEMES, apk, compare, dpkg, pep440, rpm, semver

# Dense alphabets, so that versions are often equal in part.
DPKG = st.from_regex(r"(?:[0-2]:)?[0-9][0-9a.+~]{0,6}(?:-[0-9a+~.]{1,5})?", fullmatch=True)
RPM = st.from_regex(r"[0-9a.~^+_]{1,8}", fullmatch=True)
APK = st.from_regex(
    r"[0-9]{1,2}(\.[0-9]{1,2}){0,3}[a-c]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)[0-9]{0,2}){0,2}(-r[0-9])?",
    fullmatch=True,
)
PEP440 = st.from_regex(
    r"(v|1!)?[0-2](\.[0-2]){0,3}([-_.]?(a|b|c|rc|alpha|pre)[-_.]?[0-2]?)?(-1|[-_.]?(post|rev|r)[0-2]?)?"
    r"([-_.]?dev[0-2]?)?(\+[a-b0-1]{1,2}([._-][a0]){0,2})?",
    fullmatch=True,
)
SEMVER = st.from_regex(
    r"[0-2]\.[0-2]\.[0-2](-(0|[1-2]|a|rc|a-1)(\.(0|[1-9]|10|b)){0,2})?(\+b)?", fullmatch=True
)
KINDS = {"dpkg": DPKG, "rpm": RPM, "apk": APK, "pep440": PEP440, "semver": SEMVER}


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


@pytest.mark.parametrize("name", SCHEMES)
@given(st.data())
def test_each_order_is_total(name: str, data: st.DataObject) -> None:
    scheme = SCHEMES[name]
    versions = st.one_of(KINDS[name], st.text(alphabet="01.-:~^+_ra!", max_size=8), st.text(max_size=5))
    a, b, c = (data.draw(versions) for _ in range(3))
    assert compare(scheme, a, a) == 0
    assert compare(scheme, a, b) == -compare(scheme, b, a)
    if compare(scheme, a, b) <= 0 and compare(scheme, b, c) <= 0:
        assert compare(scheme, a, c) <= 0
    if compare(scheme, a, b) == 0:
        assert compare(scheme, a, c) == compare(scheme, b, c)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_number_of_any_length_is_compared(name: str) -> None:
    assert compare(SCHEMES[name], "9" * 100_000, "1" + "0" * 100_000) == -1


@needs("dpkg")
@settings(max_examples=150, deadline=None)
@given(DPKG, DPKG)
@example("1.0-0", "1.0")
@example("1.0~~", "1.0~")
@example("0:1", "1")
@example("1.a", "1.+")
@example("0", "0~")
@example("0-0~", "0")
@example("0a", "0")
def test_dpkg_agrees(first: str, second: str) -> None:
    word = {-1: "lt", 0: "eq", 1: "gt"}[compare(dpkg.key, first, second)]
    assert subprocess.run(["dpkg", "--compare-versions", first, word, second], check=False).returncode == 0


@needs("rpm")
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(RPM, RPM), min_size=30, max_size=60))
@example(
    [("1.0", "1.0."), ("1^", "1"), ("1~", "1"), ("1^a", "1a"), ("1a", "1.1"), ("1~^", "1^"), ("1.a", "1^")]
)
def test_rpm_agrees(pairs: list[tuple[str, str]]) -> None:
    table = ",".join(f"{{'{first}','{second}'}}" for first, second in pairs)
    program = (
        f"local t = {{}} for _, p in ipairs({{{table}}}) do t[#t+1] = tostring(rpm.vercmp(p[1], p[2])) end "
        "print(table.concat(t, ' '))"
    )
    told = subprocess.run(
        ["rpm", "--eval", f"%{{lua:{program}}}"], check=True, capture_output=True, text=True
    ).stdout.split()
    ours = [compare(rpm.part, first, second) for first, second in pairs]
    assert ours == [int(word) for word in told]


@given(PEP440, PEP440)
@settings(max_examples=500, deadline=None)
@example("1.0.dev1", "1.0a1")
@example("1.0.post1.dev1", "1.0")
@example("1.0-1", "1.0.post1")
@example("1.0+a", "1.0+1")
def test_packaging_agrees(first: str, second: str) -> None:
    one, two = Version(first), Version(second)
    assert compare(pep440.key, first, second) == int(one > two) - int(one < two)


@pytest.fixture(scope="module")
def npm_semver() -> str:
    """The module that npm itself compares with, if there is one on this machine."""
    root = subprocess.run(["npm", "root", "-g"], check=False, capture_output=True, text=True).stdout.strip()
    return f"{root}/npm/node_modules/semver"


@needs("npm")
@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(SEMVER, SEMVER), min_size=100, max_size=300))
def test_npm_agrees(npm_semver: str, pairs: list[tuple[str, str]]) -> None:
    program = (
        "const s = require(process.argv[1]); const p = JSON.parse(process.argv[2]);"
        "console.log(JSON.stringify(p.map(([a, b]) => s.compare(a, b))))"
    )
    done = subprocess.run(
        ["node", "-e", program, npm_semver, json.dumps(pairs)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("npm's semver is not where it is expected")
    assert [compare(semver.key, first, second) for first, second in pairs] == json.loads(done.stdout)


def test_semver_as_specified() -> None:
    rising = (
        "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
        "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "v2.0.0", "2.0.0.1",
    )  # fmt: skip
    assert all(compare(semver.key, low, high) == -1 for low, high in pairwise(rising))
    assert compare(semver.key, "1.0.0+a", "1.0.0+b") == 0
    assert compare(semver.key, "1.0", "1.0.0") == 0


def test_apk_as_documented() -> None:
    rising = (
        "0.9", "1.0_alpha", "1.0_alpha2", "1.0_beta1", "1.0_pre2", "1.0_rc1", "1.0_rc1-r1", "1.0", "1.0-r0",
        "1.0-r9", "1.0-r10", "1.0~1a2b", "1.0_git2021", "1.0_p", "1.0_p9", "1.0_p10-r0", "1.0a", "1.0b", "1.0.0",
        "1.0.01", "1.0.1", "1.06", "1.1", "1.6", "1.12", "2", "006", "20050718-r1",
    )  # fmt: skip
    assert all(compare(apk.key, low, high) == -1 for low, high in pairwise(rising))
    assert compare(apk.key, "0.1.0_alpha_pre2", "0.1.0_alpha") == -1
    assert compare(apk.key, "3.0.20060720", "20060720") == -1


def test_epochs_count_first() -> None:
    assert compare(rpm.key, "1:1.0-1", "2.0-1") == 1
    assert compare(rpm.key, "0:2.0-1", "2.0-1") == 0
    assert compare(rpm.key, "2.0-1.el9", "2.0-1.el9_2.1") == -1
    assert compare(dpkg.key, "1:1.0-1", "2.0-1") == 1
    assert compare(dpkg.key, "2.36-9+deb12u1", "2.36-9+deb12u10") == -1


@pytest.mark.parametrize("name", SCHEMES)
def test_what_cannot_be_read_is_before_what_can(name: str) -> None:
    if name in ("dpkg", "rpm"):
        return
    assert compare(SCHEMES[name], "latest", "0.0.0") == -1
