"""Work that a cancellation must not cut in two, and the error that matters of several tasks'."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def to_the_end(work: Awaitable[None]) -> None:
    """Run ``work`` whole even when we are cancelled meanwhile; the cancellation follows it."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except BaseException:
            break
    if cancelled:
        task.exception()  # looked at, so that it is not reported as lost
        raise asyncio.CancelledError
    task.result()


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first, rather than what was cancelled because of it."""
    for error in errors.exceptions:
        found = first_error(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(found, asyncio.CancelledError):
            return found
    return errors.exceptions[0]
