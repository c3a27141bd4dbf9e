"""What of a build context is read by the server itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from slipway.build.context import Context
from slipway.errors import Invalid


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """To open anything else is an error of its own, or does something: an archive may bring a host's device."""
    with socket.socket(socket.AF_UNIX) as other, Context(tmp_path) as context:
        other.bind(str(tmp_path / "Dockerfile"))
        with pytest.raises(Invalid, match="not a regular file"):
            context.open("Dockerfile")
