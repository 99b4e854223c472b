"""Replicas know when their provider takes them away, and what it really charges

Revision: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replica", sa.Column("paid_micros", sa.BigInteger()))
    op.add_column("replica", sa.Column("leaving_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("replica", "leaving_at")
    op.drop_column("replica", "paid_micros")
