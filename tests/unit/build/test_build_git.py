"""What is said of repositories that cannot be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.base.process import Completed, run
from slipway.build.remote.credentials import NOBODY
from slipway.build.remote.git import _failure, _Git, _submodules_of, fetch_git
from slipway.build.remote.names import GitSource
from slipway.distribution.addresses import ANYWHERE
from slipway.errors import Denied, Unavailable, Unsupported

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


async def test_a_submodule_whose_name_has_spaces_is_asked_for_like_any_other(tmp_path: Path) -> None:
    """What stands behind the first space of its name is not its address."""
    await run(["git", "init", "--quiet", str(tmp_path)])
    (tmp_path / ".gitmodules").write_text(
        '[submodule "a b"]\n\tpath = a\n\turl = http://127.0.0.1:7070/x.git\n'
    )
    with pytest.raises(Denied, match="the server asks for nobody"):
        await _submodules_of(_Git(NOBODY, ANYWHERE), tmp_path, "https://192.0.2.1/top.git")
