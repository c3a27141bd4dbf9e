"""What repositories say of themselves, for search; uploads are known to the content store alone"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COLUMNS = ("description", "words")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("repositories", sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.drop_table("uploads")


def downgrade() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column(
            "repository_id",
            sa.Integer(),
            sa.ForeignKey("repositories.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    for name in _COLUMNS:
        op.drop_column("repositories", name)
