"""``slipway app exec`` on this machine: input, output, exit codes, a terminal, and an end with its client."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slipway.testing.platform import Running, write_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = Running.make(tmp_path_factory.mktemp("exec") / "platform")
    found.directory.mkdir()
    found.seed_base()
    found.up()
    found.command("deliver", str(write_app(tmp_path_factory.mktemp("app") / "app", "1")))
    yield found
    found.down()


def execute(
    platform: Running, *words: str, stdin: bytes = b"", options: tuple[str, ...] = ()
) -> tuple[int, bytes, bytes]:
    with platform.start_command("app", "exec", *options, "small", "web", "--", *words) as process:
        out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out, err


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def runs(command: bytes) -> bool:
    """Whether a process of this machine has this command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == command:
                return True
        except OSError:
            continue
    return False


def test_input_output_and_exit_code(platform: Running) -> None:
    data = bytes(range(256)) * 20_000
    assert execute(platform, "cat", stdin=data) == (0, data, b"")
    assert execute(platform, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    code, out, _ = execute(platform, "sh", "-c", "head -c 1000000 /dev/zero; kill -9 $$")
    assert (code, len(out)) == (137, 1_000_000)
    assert execute(platform, "cat", options=("--no-input",)) == (0, b"", b"")
    assert execute(platform, "cat", "/srv/app/lines")[1].endswith(b"/srv/app/app.pl\n")


def test_what_cannot_be_run_is_said(platform: Running) -> None:
    code, _, err = execute(platform, "/nonexistent")
    assert code
    assert b"no such file" in err
    for words, text in (
        (("small", "db", "true"), b"has no instance of 'db' that runs"),
        (("--replica", "9", "small", "web", "true"), b"has no instance 9 of 'web' that runs"),
        (("other", "web", "true"), b"no app"),
    ):
        done = platform.command("app", "exec", *words, ok=False)
        assert done.returncode == 1
        assert text in done.stderr
    (event, *_) = platform.json("audit", "--action", "app.exec")
    assert (event["target"], event["detail"]["service"]) == ("demo/small", "web")


def test_a_terminal(platform: Running) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 45, 123, 0, 0))
    words = [sys.executable, "-m", "slipway.cli", "app", "exec", "small", "web", "sh"]
    said = b""
    with (
        subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=platform.environment,
            start_new_session=True,
        ) as process,
        ExitStack() as stack,
    ):
        os.close(theirs)

        def hears(word: bytes) -> bool:
            nonlocal said
            try:
                said += os.read(ours, 65536)
            except OSError:  # it has ended
                time.sleep(0.1)
            return word in said

        def size(rows: int, columns: int) -> bytes:
            return b'until [ "$(stty size)" = "%d %d" ]; do sleep 0.1; done; ' % (rows, columns)

        stack.callback(process.kill)
        wait_for(lambda: hears(b"# ") or hears(b"$ "), "the shell asks")
        os.write(ours, size(45, 123) + b"tty; echo it h''as\n")
        wait_for(lambda: hears(b"it has\r\n"), "the terminal has our size")
        assert b"/dev/pts/" in said
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        process.send_signal(28)  # SIGWINCH, which a terminal of its own would have sent
        os.write(ours, size(50, 100) + b"echo it f''ollows; exit 9\n")
        wait_for(lambda: hears(b"it follows\r\n"), "the terminal follows")
        assert process.wait(60) == 9
    os.close(ours)


def test_it_ends_with_its_client(platform: Running) -> None:
    command = b"sleep\0004711\0"
    process = platform.start_command("app", "exec", "-n", "small", "web", "sleep", "4711")
    with process:
        wait_for(lambda: runs(command), "it runs")
        process.kill()
    wait_for(lambda: not runs(command), "it has ended")
