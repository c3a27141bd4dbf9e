"""conmon and the OCI runtime: their commands, and the files in which conmon says how a container ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from slipway.base.process import BASE_ENVIRONMENT, Completed, run
from slipway.errors import Failed, Unavailable
from slipway.runtime.commands import ContainerCommand, started, succeeds

_CREATE_SECONDS = 60
_LAST_WORDS_SECONDS = 10
_POLL = 0.02
_UNREADABLE = 255
_LOG_LIMIT = 64 * 1024 * 1024


class Monitor:
    """Creates and controls containers through one runtime, with state below ``directory``."""

    def __init__(self, runtime: str, directory: Path) -> None:
        self._runtime = runtime
        self._root = directory / "oci"
        self._exits = directory / "exits"
        self._attach = directory / "attach"
        for path in (self._root, self._exits, self._attach):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def create(self, container: str, bundle: Path, log: Path) -> int:
        """Start conmon, which makes the container and waits; the pid of the container's process.

        Raises ``Failed`` with the runtime's own words.
        """
        # What is left of the run before: its last word would be taken for this one's, and a runtime that was cut off
        # leaves a file that the next one does not replace.
        await self._until_conmon_ends(container, bundle)
        for path in (self._exits / container, bundle / ".pid"):
            path.unlink(missing_ok=True)
        read, write = os.pipe()
        argv = [
            "conmon", "--api-version", "1", "-c", container, "-u", container, "-n", container,
            "-r", self._runtime, "--runtime-arg", "--root", "--runtime-arg", str(self._root),
            "-b", str(bundle), "-p", str(bundle / "pid"), "--conmon-pidfile", str(bundle / "conmon.pid"),
            "--exit-dir", str(self._exits), "--socket-dir-path", str(self._attach), "--log-level", "error",
            "-l", f"k8s-file:{log}", "--log-size-max", str(_LOG_LIMIT),
        ]  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**BASE_ENVIRONMENT, "_OCI_SYNCPIPE": str(write)},
                pass_fds=[write],
                cwd=bundle,  # where it says so when memory runs out
                start_new_session=True,
            )
        except FileNotFoundError as error:
            os.close(read)
            raise Unavailable("conmon is not installed", hint="apt-get install conmon") from error
        finally:
            os.close(write)
        try:
            answer = await _read_line(read)
        finally:
            await process.wait()
        return self._pid(answer, bundle)

    def _pid(self, answer: bytes, bundle: Path) -> int:
        value = json.loads(answer) if answer else {"data": -1}
        pid = int(value.get("pid", value.get("data", -1)))
        if pid > 0:
            return pid
        message = str(value.get("message") or "")
        with contextlib.suppress(ValueError):
            message = str(json.loads(message.splitlines()[-1])["msg"]) if message.startswith("{") else message
        raise Failed(f"the container could not be created: {message.strip() or 'conmon gave no reason'}")

    async def start(self, container: str) -> None:
        await self._oci("start", container)

    async def kill(self, container: str, signal: str) -> None:
        """Idempotent: a container that has ended already is no error."""
        done = await self._oci("kill", container, signal, check=False)
        text = done.stderr.decode(errors="replace")
        if done.returncode and not any(
            word in text for word in ("not running", "does not exist", "no such process")
        ):
            raise Failed(f"the signal {signal} could not be sent: {text.strip()}")

    async def delete(self, container: str) -> None:
        """Remove the runtime's record of the container, killing it if need be. Idempotent."""
        await self._oci("delete", "--force", container, check=False)
        for path in self._attach.glob(f"{container}*"):
            with contextlib.suppress(OSError):
                path.unlink() if not path.is_dir() else (path / "attach").unlink()
                if path.is_dir():
                    path.rmdir()

    async def forget(self, container: str, bundle: Path) -> None:
        """``delete`` it, and its exit file, which must not come back later. Idempotent."""
        await self.delete(container)
        await self._until_conmon_ends(container, bundle)
        (self._exits / container).unlink(missing_ok=True)

    def ended(self) -> set[str]:
        """Those that have an exit file."""
        return set(os.listdir(self._exits))

    def exit_code(self, container: str) -> int | None:
        """What conmon says that it ended with; ``None`` while it says nothing, 255 where that is no number."""
        try:
            return int((self._exits / container).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return _UNREADABLE

    def watches(self, container: str, bundle: Path) -> bool:
        """Whether there is a conmon that waits for the container's end."""
        try:
            pid = int((bundle / "conmon.pid").read_text())
            return container.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return False

    async def probe(self, container: str, argv: Sequence[str], timeout: float) -> bool:
        """Whether a command inside ends well, within ``timeout`` seconds."""
        return await succeeds(self._words, container, argv, timeout, self._attach)

    def command(
        self, container: str, argv: Sequence[str], terminal: bool
    ) -> AbstractAsyncContextManager[ContainerCommand]:
        """A command inside, with its input and output as they come."""
        return started(self._words, container, argv, terminal, self._attach)

    @property
    def _words(self) -> list[str]:
        return [self._runtime, "--root", str(self._root)]

    async def _oci(self, *words: str, check: bool = True) -> Completed:
        return await run([*self._words, *words], check=check, timeout=_CREATE_SECONDS)

    async def _until_conmon_ends(self, container: str, bundle: Path) -> None:
        """conmon writes the exit file after the container ended."""
        for _ in range(int(_LAST_WORDS_SECONDS / _POLL)):
            if not self.watches(container, bundle):
                return
            await asyncio.sleep(_POLL)


def start_time(pid: int) -> str:
    """What tells this process from a later one with the same pid; empty when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


async def _read_line(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    try:
        async with asyncio.timeout(_CREATE_SECONDS):
            return await reader.readline()
    except TimeoutError as error:
        raise Unavailable(f"conmon did not answer within {_CREATE_SECONDS} s") from error
    finally:
        transport.close()
