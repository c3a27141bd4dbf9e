"""One PostgreSQL and one S3 server for all of these tests; each asks it for a database or a bucket of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from slipway.testing.postgres import Postgres, postgres
from slipway.testing.swift import Swift, swift


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    if os.geteuid() != 0:
        pytest.skip("PostgreSQL is started by root as its own user")
    with postgres() as found:
        yield found


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    if os.geteuid() != 0:
        pytest.skip("Swift is started as root")
    with swift(tmp_path_factory.mktemp("s3") / "swift") as found:
        yield found
