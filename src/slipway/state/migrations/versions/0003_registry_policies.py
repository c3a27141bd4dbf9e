"""Quotas, trash, sites and webhooks"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TAG_COLUMNS = (
    ("sequence", sa.BigInteger(), "0"),
    ("stamp", sa.BigInteger(), "0"),
    ("origin", sa.String(), ""),
    ("versions", sa.JSON(), "{}"),
)
_TABLES = (
    "webhook_deliveries",
    "webhooks",
    "replication_conflicts",
    "sites",
    "registry_clock",
    "project_blobs",
)


def upgrade() -> None:
    with op.batch_alter_table("projects") as table:
        table.add_column(sa.Column("used", sa.BigInteger(), nullable=False, server_default="0"))
    with op.batch_alter_table("manifests") as table:
        table.add_column(sa.Column("pushed_by", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("deleted", sa.DateTime(timezone=True), nullable=True))
        table.create_index(op.f("ix_manifests_deleted"), ["deleted"])
    with op.batch_alter_table("tags") as table:
        table.add_column(sa.Column("pushed_by", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("pulled", sa.DateTime(timezone=True), nullable=True))
        for name, kind, default in _TAG_COLUMNS:
            table.add_column(sa.Column(name, kind, nullable=False, server_default=default))
        table.create_index(op.f("ix_tags_sequence"), ["sequence"])
    _create_trash()
    _create_sites()
    _create_webhooks()
    _fill()


def _create_trash() -> None:
    op.create_table(
        "deleted_tags",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("manifest_id", sa.Integer(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("deleted", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_by", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("stamp", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], ondelete="CASCADE",
            name=op.f("fk_deleted_tags_repository_id"),
        ),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.id"], ondelete="SET NULL", name=op.f("fk_deleted_tags_manifest_id")
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_deleted_tags")),
    )  # fmt: skip
    op.create_index(op.f("ix_deleted_tags_manifest_id"), "deleted_tags", ["manifest_id"])
    op.create_index(op.f("ix_deleted_tags_sequence"), "deleted_tags", ["sequence"])
    op.create_table(
        "project_blobs",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], ondelete="CASCADE", name=op.f("fk_project_blobs_project_id")
        ),
        sa.PrimaryKeyConstraint("project_id", "digest", name=op.f("pk_project_blobs")),
    )


def _create_sites() -> None:
    op.create_table(
        "registry_clock",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_clock")),
    )
    op.create_table(
        "sites",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("direction", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sites")),
    )
    op.create_table(
        "replication_conflicts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("moment", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("repository", "tag", "kept", "kept_origin")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("lost", "lost_origin")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replication_conflicts")),
    )  # fmt: skip


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], ondelete="CASCADE", name=op.f("fk_webhooks_project_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_project_id"), "webhooks", ["project_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("webhook_id", sa.Integer(), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], ondelete="CASCADE", name=op.f("fk_webhook_deliveries_webhook_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_webhook_id"), "webhook_deliveries", ["webhook_id"])
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["state", "due"])


def _fill() -> None:
    """What was there before: the site's own name, the order of its tags, and what its projects use."""
    site = secrets.token_hex(8)
    columns = [sa.column(name, kind) for name, kind, _ in _TAG_COLUMNS]
    values = {"sequence": 1, "stamp": 1, "origin": site, "versions": {site: 1}}
    op.execute(sa.table("tags", *columns).update().values(**values))
    clock = sa.text("INSERT INTO registry_clock (id, site, value) VALUES (1, :site, 1)")
    op.execute(clock.bindparams(site=site))
    op.execute(
        "INSERT INTO project_blobs (project_id, digest, size, count) "
        "SELECT project_id, digest, MAX(size), COUNT(*) FROM ("
        " SELECT r.project_id AS project_id, m.digest AS digest, m.size AS size"
        " FROM manifests m JOIN repositories r ON r.id = m.repository_id"
        " UNION ALL SELECT r.project_id, f.digest, f.size FROM manifest_references f"
        " JOIN manifests m ON m.id = f.manifest_id JOIN repositories r ON r.id = m.repository_id"
        ") AS needed GROUP BY project_id, digest"
    )
    op.execute(
        "UPDATE projects SET used = COALESCE("
        "(SELECT SUM(size) FROM project_blobs b WHERE b.project_id = projects.id), 0)"
    )


def downgrade() -> None:
    for name in (*_TABLES, "deleted_tags"):
        op.drop_table(name)
    with op.batch_alter_table("tags") as table:
        table.drop_index(op.f("ix_tags_sequence"))
        for name in ("pushed_by", "pulled", *(column[0] for column in _TAG_COLUMNS)):
            table.drop_column(name)
    with op.batch_alter_table("manifests") as table:
        table.drop_index(op.f("ix_manifests_deleted"))
        table.drop_column("deleted")
        table.drop_column("pushed_by")
    with op.batch_alter_table("projects") as table:
        table.drop_column("used")
