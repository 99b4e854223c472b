"""Parked machines: when each was stopped, and what it did before that

Revision: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replica", sa.Column("parked_at", sa.DateTime(timezone=True)))
    op.create_table(
        "replica_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("started", sa.Boolean(), nullable=False),
        sa.Column("launched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("up_at", sa.DateTime(timezone=True)),
        sa.Column("healthy_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("price_micros", sa.BigInteger()),
        sa.Column("paid_micros", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica_run")),
    )
    op.create_index(op.f("ix_replica_run_cluster"), "replica_run", ["cluster"])


def downgrade() -> None:
    op.drop_table("replica_run")
    op.drop_column("replica", "parked_at")
