"""What repositories say of themselves, for search"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

_COLUMNS = ("description", "words")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("repositories", sa.Column(name, sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("repositories", name)
