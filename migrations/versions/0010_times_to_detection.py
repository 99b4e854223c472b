"""How long the cause of a loss was before it was noticed

Revision: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("event", sa.Column("within_s", sa.Float()))
    op.create_index(op.f("ix_event_within_s"), "event", ["within_s"])


def downgrade() -> None:
    op.drop_index(op.f("ix_event_within_s"), table_name="event")
    op.drop_column("event", "within_s")
