"""The migrations and the tables say the same, and what an older version stored is carried over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select, text

from slipway.state import Database
from slipway.state.database import MIGRATIONS
from slipway.state.tables import Base, Clock, Project, Tag


async def test_migrating_makes_what_the_tables_say(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")
    await database.migrate()

    def differences(connection: Connection) -> list[Any]:
        found: list[Any] = compare_metadata(MigrationContext.configure(connection), Base.metadata)
        return found

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.dispose()


async def test_what_was_there_before_is_counted_and_stamped(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")

    def older(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        moment = "2026-01-01 00:00:00"
        for statement in (
            f"INSERT INTO projects (id, name, public, policy, created) VALUES (1, 'p', 0, '{{}}', '{moment}')",
            f"INSERT INTO repositories (id, project_id, name, created) VALUES (1, 1, 'p/x', '{moment}')",
            "INSERT INTO manifests (id, repository_id, digest, media_type, artifact_type, size, created)"
            f" VALUES (1, 1, 'sha256:a', 't', '', 5, '{moment}'), (2, 1, 'sha256:b', 't', '', 7, '{moment}')",
            "INSERT INTO manifest_references (manifest_id, digest, size)"
            " VALUES (1, 'sha256:l', 100), (2, 'sha256:l', 100), (2, 'sha256:m', 1000)",
            f"INSERT INTO tags (repository_id, name, manifest_id, updated) VALUES (1, 'v', 2, '{moment}')",
        ):
            connection.execute(text(statement))

    async with database.engine.begin() as connection:
        await connection.run_sync(older)
    await database.migrate()
    async with database.read() as session:
        assert await session.scalar(select(Project.used)) == 5 + 7 + 100 + 1000
        clock = (await session.scalars(select(Clock))).one()
        tag = (await session.scalars(select(Tag))).one()
        assert (tag.origin, tag.stamp, tag.versions) == (clock.site, 1, {clock.site: 1})
        assert json.dumps(tag.versions)
    await database.dispose()
