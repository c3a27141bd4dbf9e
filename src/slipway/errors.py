"""The kinds of error every room raises, and the two texts each carries.

``message`` states the fact with the offending value; ``hint`` says what to do about it. ``context`` holds
machine-readable details (a file, a line, a digest) and never a secret. Wire formats map the *kind*, so a new
class here is a change of every mapper. This module imports nothing of ours.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SlipwayError(Exception):
    """Base of all errors a user may see. ``kind`` is the stable word used on the wire."""

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class NotFound(SlipwayError):
    """The named thing does not exist, or the caller may not know that it does."""

    kind = "not_found"


class Conflict(SlipwayError):
    """The request is well-formed but the present state forbids it (already exists, in use, moved)."""

    kind = "conflict"


class Invalid(SlipwayError):
    """The input is wrong: a file, an argument, a document. Repeating it will not help."""

    kind = "invalid"


class Unauthenticated(SlipwayError):
    """No credentials, or wrong ones."""

    kind = "unauthenticated"


class Denied(SlipwayError):
    """Known caller, but not allowed."""

    kind = "denied"


class Unavailable(SlipwayError):
    """A dependency does not answer now; the same request may succeed later."""

    kind = "unavailable"


class Exhausted(SlipwayError):
    """A limit was reached: disk, quota, size, rate. The message names the limit and what came."""

    kind = "exhausted"


class Unsupported(SlipwayError):
    """Understood, but this host, version or role cannot do it."""

    kind = "unsupported"


class Failed(SlipwayError):
    """Work that was started ended badly: a RUN, a command, a health check."""

    kind = "failed"


class Cancelled(SlipwayError):
    """Work was ended on request."""

    kind = "cancelled"


class Interrupted(SlipwayError):
    """Work was ended by a restart of the server and can be retried."""

    kind = "interrupted"


KINDS: dict[str, type[SlipwayError]] = {
    cls.kind: cls
    for cls in (
        SlipwayError, NotFound, Conflict, Invalid, Unauthenticated, Denied, Unavailable, Exhausted,
        Unsupported, Failed, Cancelled, Interrupted,
    )
}  # fmt: skip
