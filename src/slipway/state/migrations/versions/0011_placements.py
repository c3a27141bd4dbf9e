"""Where apps are, and what tells clusters apart"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("apps", sa.Column("placement", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("clusters", sa.Column("prefix", sa.String(), nullable=False, server_default="slipway-"))
    op.add_column("clusters", sa.Column("identity", sa.String(), nullable=False, server_default=""))
    op.add_column("clusters", sa.Column("seen", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("apps", "placement")
    for name in ("prefix", "identity", "seen"):
        op.drop_column("clusters", name)
