"""containerd, as on a node, for a test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Ctr:
    """containerd's own client at one daemon."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def images(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "-a", str(self._socket), "images", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert not ok or done.returncode == 0, done.stderr + done.stdout
        return done


@contextmanager
def containerd(directory: Path) -> Iterator[Ctr]:
    """A daemon that keeps everything below ``directory``."""
    directory.mkdir(exist_ok=True)
    socket, config = directory / "c.sock", directory / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n[grpc]\naddress = "{socket}"\n'
    )
    with subprocess.Popen(["containerd", "-c", str(config)], stderr=subprocess.DEVNULL) as daemon:
        try:
            end = time.monotonic() + 60
            while not socket.exists():
                assert daemon.poll() is None
                assert time.monotonic() < end
                time.sleep(0.1)
            yield Ctr(socket)
        finally:
            daemon.terminate()
