"""What databases and their drivers raise, as errors of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from slipway.errors import Conflict, Exhausted, Invalid, SlipwayError, Unavailable

_FULL = ("53100",)
_GONE = ("23503",)  # a foreign key
_UNWRITABLE = ("22021",)  # a NUL, for one
_PASSING = ("08", "40", "53", "55P03", "57", "58")  # connection, serialization, resources, shut down, system


@contextmanager
def foreign_errors() -> Iterator[None]:
    """Errors of the statements themselves pass as they are: they are ours."""
    try:
        yield
    except DBAPIError as error:
        found = _known(error)
        if found is None:
            raise
        raise found from error
    except (PoolTimeoutError, ConnectionError, TimeoutError) as error:
        raise Unavailable(f"the database does not answer: {error or type(error).__name__}") from error


def _known(error: DBAPIError) -> SlipwayError | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    text = str(error.orig)
    if state in _FULL or (isinstance(error, OperationalError) and "full" in text):
        return Exhausted(f"the database cannot be written: {text}", hint="free some disk space and try again")
    if state in _UNWRITABLE:
        return Invalid("the text has characters that cannot be stored")
    if state in _GONE:
        return Conflict("what this refers to was removed in the same moment", hint="try again")
    if state.startswith(_PASSING) or error.connection_invalidated:
        return Unavailable(f"the database does not answer: {text}")
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable(f"the database does not answer: {text}")
    return None
