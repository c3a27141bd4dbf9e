"""The arguments of one instruction on their way to becoming typed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.flags import Flags, take_flags
from slipway.build.dockerfile.lines import LogicalLine, is_text
from slipway.build.dockerfile.words import split_words


@dataclass(slots=True)
class Arguments:
    """``rest`` is what is left of the instruction's text behind its name (and, once taken, its flags)."""

    line: LogicalLine
    word: str
    rest: str
    warnings: list[str] = field(default_factory=list)

    @property
    def base(self) -> tuple[Location, str]:
        """What every instruction begins with: its place and its text."""
        return self.line.location, self.line.text

    def fail(self, message: str, word: str = "", hint: str = "") -> DockerfileError:
        return DockerfileError(message, self.line.location, word=word, hint=hint)

    def warn(self, text: str) -> None:
        place = self.line.location
        self.warnings.append(f"{place.file}:{place.line}: {text}")

    def flags(self, *known: str, repeatable: tuple[str, ...] = ()) -> Flags:
        found, self.rest = take_flags(
            self.rest, self.word, self.line.location, known=known, repeatable=repeatable
        )
        return found

    def json_words(self) -> tuple[str, ...] | None:
        """The rest as a JSON array of strings, or ``None`` when it is none: then it is ordinary text."""
        if not self.rest.startswith("["):
            return None
        try:
            value = json.loads(self.rest)
        except (ValueError, RecursionError):
            if self.rest.endswith("]") and ('"' in self.rest or "'" in self.rest):
                self.warn(
                    f"{self.word} looks like a JSON array but is none, so it is taken as shell text; "
                    "strings in JSON have double quotes"
                )
            return None
        if not isinstance(value, list):
            return None
        if not all(isinstance(item, str) for item in value):
            raise self.fail(
                f"the JSON array of {self.word} may hold only strings", self.rest[:1], "quote every element"
            )
        if not all(is_text(item) for item in value):
            raise self.fail(
                f"the JSON array of {self.word} has an escape that is no character", self.rest[:1]
            )
        return tuple(value)

    def command(self) -> tuple[tuple[str, ...], bool]:
        """Words and whether they are in exec form; the shell form is one word, or none."""
        words = self.json_words()
        return (words, True) if words is not None else ((self.rest,) if self.rest else (), False)

    def list(self) -> tuple[str, ...]:
        """A JSON array, else words at white space (quotes mean nothing)."""
        words = self.json_words()
        return words if words is not None else tuple(self.rest.split())

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """``name=value …``, or the old form ``name value`` of one pair."""
        words = split_words(self.rest, self.line.escape)
        if words and "=" not in words[0]:
            return (self._old_pair(),)
        found = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise self.fail(
                    f"not NAME=VALUE: {word[:60]}", word, 'quote a value with spaces: NAME="a value"'
                )
            found.append((self.name(name, word), value))
        return tuple(found)

    def _old_pair(self) -> tuple[str, str]:
        head = self.rest.split(None, 1)
        if len(head) != 2:
            raise self.fail(f"{self.word} needs a value for {head[0][:60]}", head[0], "write NAME=VALUE")
        return head[0], head[1]

    def name(self, name: str, word: str) -> str:
        if not name or name in ('""', "''"):
            raise self.fail(f"{self.word} needs a name before the '='", word)
        return name
