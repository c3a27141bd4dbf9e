"""An instruction's flags: ``--name=value`` words in front of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from slipway.build.dockerfile.errors import DockerfileError, Location
from slipway.build.dockerfile.words import split_words, unquoted

_TRUE = ("", "true", "1", "t")
_FALSE = ("false", "0", "f")


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that were given, each with its values in order; ``None`` for a flag without ``=``."""

    values: Mapping[str, tuple[str | None, ...]]
    location: Location

    def text(self, name: str) -> str:
        """The value, or nothing. Raises ``DockerfileError`` for a flag without one."""
        return (self.texts(name) or ("",))[0]

    def texts(self, name: str) -> tuple[str, ...]:
        found = []
        for value in self.values.get(name, ()):
            if not value:
                raise DockerfileError(
                    f"--{name} needs a value", self.location, word=f"--{name}", hint=f"write --{name}=VALUE"
                )
            found.append(value)
        return tuple(found)

    def switch(self, name: str) -> bool | None:
        """A flag that is on or off; ``None`` if it is not there."""
        if name not in self.values:
            return None
        value = (self.values[name][0] or "").lower()
        if value not in (*_TRUE, *_FALSE):
            raise DockerfileError(
                f"--{name} is true or false, not {value[:40]!r}", self.location, word=f"--{name}"
            )
        return value in _TRUE


def take_flags(
    text: str, word: str, location: Location, *, known: tuple[str, ...] = (), repeatable: tuple[str, ...] = ()
) -> tuple[Flags, str]:
    """The leading flags of ``text``, and the rest. A bare ``--`` ends them.

    Raises ``DockerfileError`` for one that the instruction ``word`` does not have, or that is given twice.
    """
    found: dict[str, tuple[str | None, ...]] = {}
    while text.startswith("--"):
        # Only the flag's own word is split off: the rest may be a script with any quotes.
        raw = _first_word(text)
        text = text[len(raw) :].lstrip()
        if raw == "--":
            break
        name, equals, value = unquoted(raw)[0][2:].partition("=")
        if name not in known + repeatable:
            raise _unknown(name, word, known + repeatable, location)
        if name in found and name not in repeatable:
            raise DockerfileError(f"--{name} is given twice", location, word=f"--{name}")
        found[name] = (*found.get(name, ()), value if equals else None)
    return Flags(found, location), text


def _first_word(text: str) -> str:
    end = next((index for index, char in enumerate(text) if char.isspace()), len(text))
    head = text[:end]
    if not any(char in head for char in "'\"\\"):
        return head
    word = split_words(text, "\\")[0]
    return text[: len(word)] if text.startswith(word) else head


def _unknown(name: str, word: str, known: tuple[str, ...], location: Location) -> DockerfileError:
    close = get_close_matches(name, known, 1)
    if close:
        hint = f"did you mean --{close[0]}?"
    elif known:
        hint = f"{word} knows {', '.join(f'--{item}' for item in known)}"
    else:
        hint = f"{word} has no flags; put '-- ' in front of an argument that begins with --"
    return DockerfileError(f"{word} has no flag --{name[:40]}", location, word=f"--{name}", hint=hint)
