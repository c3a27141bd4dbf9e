"""Migrations lose no row."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from slipway.state import Database
from slipway.state.database import MIGRATIONS

_ROWS = (
    "insert into users (id, name, password_hash, is_admin, disabled, created)"
    " values (1, 'ada', 'x', 0, 0, '2026-01-01')",
    "insert into projects (id, name, public, policy, created) values (1, 'demo', 0, '{}', '2026-01-01')",
    "insert into members (project_id, user_id, role) values (1, 1, 'admin')",
)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


async def test_external_users_come_and_go_without_a_loss(tmp_path: Path) -> None:
    database = Database.sqlite(tmp_path / "state.db")
    async with database.engine.begin() as connection:
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), "0003"))
        for statement in _ROWS:
            await connection.execute(text(statement))
    for step in ("up", "down", "up"):
        async with database.engine.begin() as connection:
            if step == "up":
                await connection.run_sync(lambda sync: command.upgrade(_config(sync), "0005"))
            else:
                await connection.run_sync(lambda sync: command.downgrade(_config(sync), "0003"))
            found = await connection.execute(
                text("select name, role from users join members on user_id = id")
            )
            assert found.all() == [("ada", "admin")]
    await database.dispose()
