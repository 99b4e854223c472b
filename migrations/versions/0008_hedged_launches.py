"""Launches that a second one was made beside

Revision: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replica", sa.Column("hedged_by", sa.Text()))


def downgrade() -> None:
    op.drop_column("replica", "hedged_by")
