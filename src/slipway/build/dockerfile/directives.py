"""Parser directives: ``# syntax=``, ``# escape=``, ``# check=`` at the very top of the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.build.dockerfile.errors import DockerfileError, Location

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_KNOWN = ("syntax", "escape", "check")


@dataclass(frozen=True, slots=True)
class Check:
    """``# check=skip=RULE,RULE;error=true``: which build checks to leave out (``all``: every one).

    ``experimental`` names those that are off otherwise.
    """

    skip: tuple[str, ...] = ()
    error: bool = False
    experimental: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directives:
    """``syntax`` names a frontend image: it is kept for information, the language is always our own."""

    syntax: str = ""
    escape: str = "\\"
    check: Check = Check()


def read_directives(lines: Sequence[str], file: str) -> Directives:
    """Any other comment, an empty line or an unknown key ends them; what looks like one later is a comment."""
    found: dict[str, str] = {}
    check = Check()
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _KNOWN:
            break
        name, value = match[1].lower(), match[2]
        here = Location(file, number, number, line)
        if name in found:
            raise DockerfileError(
                f"the directive {name!r} is given twice", here, word=match[1], hint="keep one of them"
            )
        if name == "escape" and value not in ("\\", "`"):
            raise DockerfileError(f"not an escape character: {value!r}", here, word=value, hint="use \\ or `")
        if name == "check":
            check = _check(value, here)
        found[name] = value
    return Directives(found.get("syntax", ""), found.get("escape", "\\"), check)


def _check(text: str, here: Location) -> Check:
    lists: dict[str, tuple[str, ...]] = {}
    error = False
    for part in text.split(";"):
        key, _, value = (item.strip() for item in part.partition("="))
        if key in ("skip", "experimental"):
            lists[key] = tuple(item.strip() for item in value.split(",") if item.strip())
        elif key == "error" and value.lower() in ("true", "false"):
            error = value.lower() == "true"
        else:
            raise DockerfileError(
                f"not a check option: {part.strip()[:60]!r}", here, word=part.strip(),
                hint="e.g. # check=skip=JSONArgsRecommended;error=true",
            )  # fmt: skip
    return Check(lists.get("skip", ()), error, lists.get("experimental", ()))
