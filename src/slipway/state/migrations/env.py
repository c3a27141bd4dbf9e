"""Alembic's entry: migrations always run over the connection they are given."""

from __future__ import annotations

from alembic import context

from slipway.state.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
