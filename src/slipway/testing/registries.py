"""Another registry for a test: Debian's docker-registry."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.testing.platform import free_port


@contextmanager
def debian_registry(directory: Path, login: tuple[str, str] | None = None) -> Iterator[str]:
    """A running registry below ``directory``, its address; with ``login`` (user, password) it wants that for all."""
    directory.mkdir(parents=True)
    port = free_port()
    config = directory / "registry.yml"
    text = (
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    if login:
        words = ["htpasswd", "-Bbn", *login]
        made = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        (directory / "passwords").write_text(made)
        text += f"auth: {{htpasswd: {{realm: other, path: {directory}/passwords}}}}\n"
    config.write_text(text)
    with subprocess.Popen(
        ["docker-registry", "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _until_answers(f"http://127.0.0.1:{port}/v2/")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _until_answers(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")
