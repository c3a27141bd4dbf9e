"""A command beside what an instance runs: the Protocol that every engine's has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class Command(Protocol):
    """Life: started by an engine's ``run`` → ``output`` to its end, ``write`` and ``resize`` meanwhile → ``code``.

    It ends with the block that it was started in, whether it is through or not; on a cluster it loses its input and
    its terminal then, and it is the cluster's node that ends it, or not.
    """

    async def write(self, data: bytes) -> None:
        """To its standard input; no bytes are its end. Waits until they are taken; what is too late is lost."""
        ...

    async def resize(self, columns: int, rows: int) -> None:
        """Of its terminal, if it has one."""
        ...

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """``stdout`` or ``stderr`` with the bytes, as they come, to the end. A terminal has ``stdout`` only.

        Raises ``Unavailable`` when the connection to it broke.
        """
        ...

    async def code(self) -> int:
        """Its exit code, to be asked for after all output. Raises ``Failed`` when it could not be started."""
        ...
