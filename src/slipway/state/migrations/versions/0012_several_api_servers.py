"""What several API servers share: logs of builds, signing keys, advisories, and who of them leads"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_logs",
        sa.Column("build_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], ondelete="CASCADE", name=op.f("fk_build_logs_build_id")
        ),
        sa.PrimaryKeyConstraint("build_id", "number", name=op.f("pk_build_logs")),
    )
    op.create_table(
        "signing_keys",
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("project", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "shared_files",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("name", "digest")),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_shared_files")),
    )
    op.create_table(
        "leases",
        *(sa.Column(name, sa.String(), nullable=False) for name in ("name", "holder", "address")),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    for name in ("leases", "shared_files", "signing_keys", "build_logs"):
        op.drop_table(name)
