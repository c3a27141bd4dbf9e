"""What an engine cannot do of a model, shown at its place in the Compose file.

An engine sees only the model, so it names keys; the loader knows where each of them stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from slipway.compose.document import Value
from slipway.compose.errors import ComposeError
from slipway.compose.model import Project
from slipway.errors import Invalid


@dataclass(frozen=True, slots=True)
class Refusal:
    """``keys``: the place, from the top of the file; ``reason`` follows its name in the message.

    ``other``: a second way to write the same, looked for when ``keys`` is not in the file.
    """

    keys: tuple[str, ...]
    reason: str
    hint: str = ""
    other: tuple[str, ...] = ()

    def error(self) -> Invalid:
        """For a model that came from elsewhere than a file."""
        return Invalid(f"{'.'.join(self.keys)} {self.reason}", hint=self.hint)


Refuse = Callable[[Project], Iterable[Refusal]]


def located(root: Value, refusal: Refusal) -> ComposeError:
    """The refusal at its key's line, or at the nearest key above it that is written."""
    first, second = _deepest(root, refusal.keys), _deepest(root, refusal.other)
    value = first if first.path == ".".join(refusal.keys) or not refusal.other else second
    return value.fail_at_key(f"{'.'.join(refusal.keys)} {refusal.reason}", refusal.hint)


def _deepest(root: Value, keys: tuple[str, ...]) -> Value:
    value = root
    for key in keys:
        below = dict(value.items()).get(key) if value.is_mapping else None
        if below is None:
            return value
        value = below
    return value
