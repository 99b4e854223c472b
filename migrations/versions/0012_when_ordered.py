"""When a service was last ordered: what failed before that holds up no launch

Revision: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("service", sa.Column("ordered_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("service", "ordered_at")
