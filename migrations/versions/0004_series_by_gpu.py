"""Series found by GPU and purchase: questions about prices no longer go through all of them

Revision: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_series_gpu_purchase"), "series", ["gpu", "purchase"])


def downgrade() -> None:
    op.drop_index(op.f("ix_series_gpu_purchase"), "series")
