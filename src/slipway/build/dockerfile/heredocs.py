"""Heredocs: ``<<NAME``, ``<<-NAME``, ``<<"NAME"``, as words of RUN, COPY and ADD."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.words import balanced, split_words, unquoted

_WORD = re.compile(r"(\d*)<<(-?)([^<]+)", re.DOTALL)
# A shell ends the name here: ``cat <<EOF>file`` and ``<<EOF|sort`` are two words each to it.
_END = re.compile(r"""[|&;()<>]""")
_INSTRUCTIONS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True, slots=True)
class Opening:
    """What one ``<<`` word says. A quoted name means that nothing inside is expanded."""

    name: str
    expand: bool
    strip: bool


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A heredoc with its content as written; ``text`` is what the reader of it sees."""

    name: str
    content: str
    expand: bool
    strip: bool = False

    @property
    def text(self) -> str:
        return re.sub(r"(?m)^\t+", "", self.content) if self.strip else self.content


def opening(word: str, *, in_shell: bool = False) -> Opening | None:
    """``word`` as the beginning of a heredoc, or ``None`` if it is none.

    To a shell the name ends where the next operator begins.
    """
    match = _WORD.fullmatch(word)
    if match is None or len(split_words(match[3], "\\")) != 1:
        return None
    name, quoted = unquoted(match[3])
    if in_shell and not quoted:
        name = _END.split(name)[0]
    return Opening(name, not quoted, match[2] == "-") if name and "\n" not in name else None


def openings(text: str) -> list[Opening]:
    """The heredocs that an instruction's text opens, in order."""
    first, *rest = text.split(None, 1)
    if first.upper() == "ONBUILD" and rest:
        first, *rest = rest[0].split(None, 1)
    if first.upper() not in _INSTRUCTIONS or not rest or not balanced(rest[0], "\\"):
        return []
    in_shell = first.upper() == "RUN"
    found = (opening(word, in_shell=in_shell) for word in split_words(rest[0], "\\"))
    return [item for item in found if item is not None]


def read_heredoc(start: Opening, lines: Sequence[str], index: int, at: Location) -> tuple[Heredoc, int]:
    """The heredoc whose content begins at ``lines[index]``, and the index behind its end."""
    body: list[str] = []
    while index < len(lines):
        line = lines[index]
        index += 1
        bare = line.rstrip("\r")
        if (bare.lstrip("\t") if start.strip else bare) == start.name:
            return Heredoc(start.name, "".join(body), start.expand, start.strip), index
        body.append(line + "\n")
    raise DockerfileError(
        f"the heredoc <<{start.name} is not closed", at, word=start.name,
        hint=f"end it with a line that says {start.name} and nothing else",
    )  # fmt: skip
