"""A command inside a running container, with its input and output as they come, at a terminal if asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import struct
import termios
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from slipway.base.process import BASE_ENVIRONMENT

_PIECE = 64 * 1024
_END_SECONDS = 5.0
_POLL = 0.02


class ContainerCommand:
    """By the runtime's ``exec``; see ``slipway.delivery.commands.Command`` for what the methods do."""

    def __init__(
        self, process: asyncio.subprocess.Process, streams: Mapping[str, Callable[[], Awaitable[bytes]]],
        stdin: asyncio.StreamWriter, terminal: int | None,
    ) -> None:  # fmt: skip
        """``streams`` are read to their ends; ``terminal`` is our side of one."""
        self._process = process
        self._streams = streams
        self._stdin = stdin
        self._terminal = terminal

    async def write(self, data: bytes) -> None:
        if self._stdin.is_closing():
            return
        with contextlib.suppress(ConnectionError):
            if data:
                self._stdin.write(data)
                await self._stdin.drain()
            elif self._terminal is None:
                self._stdin.close()

    async def resize(self, columns: int, rows: int) -> None:
        if self._terminal is not None:
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            with contextlib.suppress(ProcessLookupError):  # nobody else tells it: the terminal is not its own
                self._process.send_signal(signal.SIGWINCH)

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(4)

        async def pass_on(name: str, read: Callable[[], Awaitable[bytes]]) -> None:
            while data := await read():
                await queue.put((name, data))
            await queue.put((name, b""))

        tasks = [asyncio.create_task(pass_on(*item)) for item in self._streams.items()]
        try:
            open_ = len(tasks)
            while open_:
                name, data = await queue.get()
                if data:
                    yield name, data
                else:
                    open_ -= 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def code(self) -> int:
        return await self._process.wait()

    async def end(self, pid_file: Path) -> None:
        await _end(self._process, pid_file)
        self._stdin.close()
        if self._terminal is not None:
            os.close(self._terminal)


@asynccontextmanager
async def started(
    runtime: Sequence[str], container: str, command: Sequence[str], terminal: bool, directory: Path
) -> AsyncIterator[ContainerCommand]:
    """``runtime`` are the words before ``exec``; a file is in ``directory`` meanwhile. When the block is left, the
    command has ended."""
    pid_file = _pid_file(directory)
    options = ["--pid-file", str(pid_file), *(["--tty", "--env", "TERM=xterm-256color"] if terminal else [])]
    words = [*runtime, "exec", *options, container, *command]
    found = await (_at_terminal(words) if terminal else _with_pipes(words))
    try:
        yield found
    finally:
        await asyncio.shield(found.end(pid_file))


async def succeeds(
    runtime: Sequence[str], container: str, command: Sequence[str], timeout: float, directory: Path
) -> bool:
    """Whether the command ends with 0 within ``timeout`` seconds; it has ended in any case. Nobody hears what it says.

    The other arguments as for ``started``.
    """
    pid_file = _pid_file(directory)
    words = [*runtime, "exec", "--pid-file", str(pid_file), container, *command]
    process = await asyncio.create_subprocess_exec(
        *words, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=BASE_ENVIRONMENT, start_new_session=True
    )
    try:
        async with asyncio.timeout(timeout):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        await asyncio.shield(_end(process, pid_file))


def _pid_file(directory: Path) -> Path:
    return directory / f"exec-{os.urandom(8).hex()}"


async def _end(process: asyncio.subprocess.Process, pid_file: Path) -> None:
    """Killed is what is left: the process in the container, once it is there, and the runtime that waits for it."""
    ended = asyncio.ensure_future(process.wait())
    latest = time.monotonic() + _END_SECONDS
    while process.returncode is None and time.monotonic() < latest:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
        await asyncio.wait([ended], timeout=_POLL)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await ended
    pid_file.unlink(missing_ok=True)


async def _with_pipes(words: Sequence[str]) -> ContainerCommand:
    process = await asyncio.create_subprocess_exec(
        *words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=BASE_ENVIRONMENT, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {"stdout": process.stdout, "stderr": process.stderr}
    readers = {name: partial(stream.read, _PIECE) for name, stream in streams.items()}
    return ContainerCommand(process, readers, process.stdin, None)


async def _at_terminal(words: Sequence[str]) -> ContainerCommand:
    loop = asyncio.get_running_loop()
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=theirs, stdout=theirs, stderr=theirs, env=BASE_ENVIRONMENT, start_new_session=True
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(ours), "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    return ContainerCommand(process, {"stdout": partial(_read_terminal, ours)}, writer, ours)


async def _read_terminal(fd: int) -> bytes:
    """What is there to read, at its end nothing."""
    while True:
        try:
            return os.read(fd, _PIECE)
        except BlockingIOError:
            await _readable(fd)
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal's way to say that nobody has it open any more
                raise
            return b""


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    is_there = asyncio.Event()
    loop.add_reader(fd, is_there.set)
    try:
        await is_there.wait()
    finally:
        loop.remove_reader(fd)
