"""Clusters, and which projects use them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clusters",
        *(
            sa.Column(name, sa.String(), nullable=False)
            for name in ("name", "server", "kubeconfig", "version")
        ),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_clusters")),
    )
    op.create_table(
        "cluster_projects",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster"], ["clusters.name"], ondelete="CASCADE", name=op.f("fk_cluster_projects_cluster")
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], ondelete="CASCADE", name=op.f("fk_cluster_projects_project_id")
        ),
        sa.PrimaryKeyConstraint("cluster", "project_id", name=op.f("pk_cluster_projects")),
    )
    op.create_index(op.f("ix_cluster_projects_project_id"), "cluster_projects", ["project_id"])


def downgrade() -> None:
    op.drop_table("cluster_projects")
    op.drop_table("clusters")
