"""What is said of repositories that cannot be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.base.process import Completed
from slipway.build.remote.git import _failure, fetch_git
from slipway.build.remote.names import GitSource
from slipway.errors import Unavailable, Unsupported

_SSH = b"""Host key verification failed.
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""


def test_the_line_that_says_something_is_told() -> None:
    error = _failure(Completed(("git",), 128, b"", _SSH), "ssh://git@e.org/x", "main")
    assert isinstance(error, Unavailable)
    assert error.message == "ssh://git@e.org/x: main cannot be fetched: Host key verification failed."


async def test_where_there_is_no_ssh_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="this server has no ssh") as refused:
        await fetch_git(GitSource("ssh://git@192.0.2.1/x.git"), tmp_path / "into")
    assert "https://" in refused.value.hint
