"""The view price_history_v1; prices without a foreign key, and without padding

Revision: 0003
Revises: 0002

PostgreSQL checks a foreign key row by row, which takes longer than to write the row, and it puts an
integer of 8 bytes only at a multiple of 8: the two of 4 stand together now, which saves 8 bytes of
each row. SQLite cannot drop a foreign key. So the table is written anew on both; a million rows
take about a second.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FOREIGN_KEY = "fk_price_change_series_id_series"

# {price}, {gpu_price}, {begin} and {end} are each database's own way to write the type.
VIEW = """
CREATE VIEW price_history_v1 AS
SELECT s.provider, s.tier, s.region, s.zone, s.instance_type, s.gpu, s.gpu_count, s.purchase,
       s.currency, {price} AS price_hour, {gpu_price} AS price_gpu_hour,
       {begin} AS valid_from, {end} AS valid_to,
       COALESCE(i.source, s.source) AS source, COALESCE(i.is_backfill, {false}) AS is_backfill
FROM price_change c
JOIN series s ON s.id = c.series_id
LEFT JOIN price_import i ON i.id = c.import_id
"""

POSTGRESQL = {
    "price": "CAST(c.price_micros / 1000000.0 AS NUMERIC(20, 6))",
    "gpu_price": "CAST(c.price_micros / 1000000.0 / s.gpu_count AS NUMERIC(20, 6))",
    "begin": "to_timestamp(c.valid_from)",
    "end": "to_timestamp(c.valid_to)",
    "false": "FALSE",
}
SQLITE = {
    "price": "c.price_micros / 1000000.0",
    "gpu_price": "round(c.price_micros / 1000000.0 / s.gpu_count, 6)",
    "begin": "strftime('%Y-%m-%dT%H:%M:%SZ', c.valid_from, 'unixepoch')",
    "end": "strftime('%Y-%m-%dT%H:%M:%SZ', c.valid_to, 'unixepoch')",
    "false": "0",
}


def upgrade() -> None:
    _rebuild()
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    op.execute(VIEW.format(**(POSTGRESQL if on_postgresql else SQLITE)))


def downgrade() -> None:
    op.execute("DROP VIEW price_history_v1")
    _rebuild(sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=FOREIGN_KEY))


def _rebuild(*constraints: sa.ForeignKeyConstraint) -> None:
    """price_change with these constraints."""
    op.rename_table("price_change", "price_change_before")
    if op.get_bind().dialect.name == "postgresql":  # where the name of a key is taken, by its index
        op.drop_constraint("pk_price_change", "price_change_before", type_="primary")
    op.create_table(
        "price_change",
        sa.Column("series_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("import_id", sa.Integer(), nullable=True),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", "valid_from", name=op.f("pk_price_change")),
        *constraints,
        sqlite_with_rowid=False,
    )
    columns = "series_id, import_id, valid_from, valid_to, price_micros"
    op.execute(
        f"INSERT INTO price_change ({columns}) SELECT {columns} FROM price_change_before"  # noqa: S608
        " ORDER BY series_id, valid_from"
    )
    op.drop_table("price_change_before")
