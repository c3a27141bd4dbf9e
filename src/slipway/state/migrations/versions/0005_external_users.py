"""Users of an OpenID provider, the roles their groups give them, and personal tokens"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Never by a new table in the old one's place (batch mode): dropping the old one would take members along.
    op.add_column("users", sa.Column("external_issuer", sa.String(), nullable=False, server_default=""))
    op.add_column("users", sa.Column("external_subject", sa.String(), nullable=False, server_default=""))
    op.add_column("users", sa.Column("external_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_users_external",
        "users",
        ["external_issuer", "external_subject"],
        unique=True,
        sqlite_where=sa.text("external_subject != ''"),
        postgresql_where=sa.text("external_subject != ''"),
    )
    op.create_table(
        "group_members",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_group_members_project_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_group_members_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("project_id", "user_id", name=op.f("pk_group_members")),
    )
    op.create_table(
        "personal_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_personal_tokens_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_personal_tokens")),
        sa.UniqueConstraint("user_id", "name", name=op.f("uq_personal_tokens_user_id")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_personal_tokens_secret_hash")),
    )


def downgrade() -> None:
    op.drop_table("personal_tokens")
    op.drop_table("group_members")
    op.drop_index("ix_users_external", "users")
    for name in ("external_until", "external_subject", "external_issuer"):
        op.drop_column("users", name)
