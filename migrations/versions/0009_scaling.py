"""Services follow a schedule and their load

Revision: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("service", sa.Column("scaling", sa.Text()))
    op.add_column("service", sa.Column("lowered_at", sa.DateTime(timezone=True)))
    op.create_table(
        "service_load",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("passed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("service", "since", name=op.f("pk_service_load")),
    )


def downgrade() -> None:
    op.drop_table("service_load")
    op.drop_column("service", "lowered_at")
    op.drop_column("service", "scaling")
