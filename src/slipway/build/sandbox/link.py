"""The worker process and the socket to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipway.base.process import BASE_ENVIRONMENT
from slipway.build import worker
from slipway.errors import Failed, Unavailable

_MESSAGE = 65536
_ANSWER_SECONDS = 20
_GRACE_SECONDS = 0.5
_PROGRAM = str(Path(worker.__file__).with_name("__main__.py"))


class WorkerLink:
    """One worker process: requests to it in order, with descriptors; its end."""

    def __init__(self, control: socket.socket, process: asyncio.subprocess.Process, log: int) -> None:
        self._control = control
        self._process = process
        self._log = log
        self._turn = asyncio.Lock()

    @classmethod
    async def launch(cls) -> WorkerLink:
        """Start the program. It ends when the returned link is closed, or with the thread that called this."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = os.memfd_create("worker-log")
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", _PROGRAM, str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env=dict(BASE_ENVIRONMENT), pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        except BaseException:
            control.close()
            os.close(log)
            raise
        finally:
            theirs.close()
        control.setblocking(False)
        return cls(control, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(
        self, operation: str, specification: object = None, descriptors: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises ``Unavailable`` when the worker cannot do it."""
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._send(operation, specification, descriptors)
                    data = await asyncio.get_running_loop().sock_recv(self._control, _MESSAGE)
            except (TimeoutError, OSError):
                data = b""
        answer: dict[str, Any] = json.loads(data) if data else {"error": self._last_line() or "no answer"}
        if not data:
            self.kill()  # a late answer must not be taken for that to the next request
        if "error" in answer:
            raise Unavailable(
                f"the build worker failed: {answer['error']}",
                hint="`slipway doctor` says whether this host has what builds need",
            )
        return answer

    async def tell(self, operation: str, specification: object, descriptors: Sequence[int]) -> None:
        """Send a request that has no answer."""
        async with self._turn:
            try:
                await self._send(operation, specification, descriptors)
            except OSError as error:
                raise Failed("the build worker has ended", hint="try again") from error

    async def _send(self, operation: str, specification: object, descriptors: Sequence[int]) -> None:
        """The specification travels in a memory file: an environment or a script may be larger than any message."""
        memory = os.memfd_create("specification")
        try:
            data = memoryview(json.dumps(specification).encode())
            while data:
                data = data[os.write(memory, data) :]
            message = json.dumps({"op": operation}).encode()
            while True:
                try:
                    socket.send_fds(self._control, [message], [memory, *descriptors])
                    return
                except BlockingIOError:
                    await asyncio.sleep(0.01)
        finally:
            os.close(memory)

    def _last_line(self) -> str:
        text = os.pread(self._log, _MESSAGE, max(0, os.fstat(self._log).st_size - _MESSAGE))
        return text.decode(errors="replace").strip().rpartition("\n")[2]

    def kill(self) -> None:
        """End the worker at once, and with it everything that runs in it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Hang up: the worker ends everything in it and then itself; if it does not, it is killed."""
        self._control.close()
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        finally:
            os.close(self._log)
