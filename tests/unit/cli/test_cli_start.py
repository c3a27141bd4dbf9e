"""The command line starts quickly because of what it does not import, and sends what the server takes."""

from __future__ import annotations

import subprocess
import sys
from typing import get_type_hints

import pytest

from slipway import wire
from slipway.wire import bodies

PROGRAM = """
import sys
from slipway.cli.main import cli
try:
    cli.main(sys.argv[1:], standalone_mode=False)
except Exception:
    pass
heavy = ("pydantic", "rich", "slipway.build", "sqlalchemy", "http.client", "ssl", "tarfile", "subprocess")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize("words", [["build", "/nonexistent"], ["deliver", "/nonexistent"]])
def test_hot_commands_import_nothing_heavy(words: list[str]) -> None:
    argv = [sys.executable, "-c", PROGRAM, "--server", "unix:///nonexistent", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


@pytest.mark.parametrize("name", ["Source", "Deliver", "BuildRequest"])
def test_bodies_say_the_same_as_the_models(name: str) -> None:
    assert set(get_type_hints(getattr(bodies, name))) == set(getattr(wire, name).model_fields)
