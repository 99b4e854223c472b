"""What servers say of their load, and how many tokens they have made

Revision: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "replica_counters",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("generation_tokens", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("kv_usage", sa.Float()),
        sa.Column("tokens_per_s", sa.Float()),
        sa.PrimaryKeyConstraint("cluster", name=op.f("pk_replica_counters")),
    )
    op.create_index(op.f("ix_replica_counters_service"), "replica_counters", ["service"])
    op.create_table(
        "served",
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("saturated_seconds", sa.Float(), nullable=False),
        sa.Column("saturated_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cluster", "since", name=op.f("pk_served")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_served_service_since"), "served", ["service", "since"])


def downgrade() -> None:
    op.drop_table("served")
    op.drop_table("replica_counters")
