"""Networks as files, without touching a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.base.files import write_json
from slipway.network import Network, Networks
from slipway.network.records import Record


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"name": "demo_torn"}', "5"])
def test_a_record_that_was_torn_keeps_no_server_from_starting(tmp_path: Path, torn: str) -> None:
    directory = tmp_path / "data" / "networks"
    directory.mkdir(parents=True)
    whole = Network("demo_whole", "sw1", "10.89.1.0/24", "10.89.1.1", True)
    write_json(directory / "demo_whole.json", Record(whole).to_json())
    (directory / "demo_torn.json").write_text(torn)
    assert Networks(tmp_path / "data", tmp_path / "run", "10.89.0.0/16").list() == [whole]
