"""When a machine was first up: the two parts of a cold start

Revision: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replica", sa.Column("up_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("replica", "up_at")
