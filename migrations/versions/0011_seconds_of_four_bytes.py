"""The seconds of change rows are counted since 2000 and take 4 bytes: a row is a fifth smaller

Revision: 0011
Revises: 0010

On PostgreSQL a change row with its key takes 75 bytes instead of 92. Seconds since 1970 would leave
4 bytes in January 2038; since 2000 they last until January 2068. The columns have other names, so
that nobody takes the one for the other; the view price_history_v1 says timestamps, as before. The
table is written anew on both databases; a million rows take about a second.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

EPOCH_2000 = 946_684_800

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
    "begin": "to_timestamp({since})",
    "end": "to_timestamp({until})",
    "false": "FALSE",
}
SQLITE = {
    "price": "c.price_micros / 1000000.0",
    "gpu_price": "round(c.price_micros / 1000000.0 / s.gpu_count, 6)",
    "begin": "strftime('%Y-%m-%dT%H:%M:%SZ', {since}, 'unixepoch')",
    "end": "strftime('%Y-%m-%dT%H:%M:%SZ', {until}, 'unixepoch')",
    "false": "0",
}


def upgrade() -> None:
    op.execute("DROP VIEW price_history_v1")
    _rebuild(("valid_from", "valid_to"), ("from_2000", "to_2000"), sa.Integer(), -EPOCH_2000)
    epoch = f"CAST({EPOCH_2000} AS BIGINT)"
    _view(f"c.from_2000 + {epoch}", f"c.to_2000 + {epoch}")


def downgrade() -> None:
    op.execute("DROP VIEW price_history_v1")
    _rebuild(("from_2000", "to_2000"), ("valid_from", "valid_to"), sa.BigInteger(), EPOCH_2000)
    _view("c.valid_from", "c.valid_to")


def _view(since: str, until: str) -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    parts = POSTGRESQL if on_postgresql else SQLITE
    op.execute(
        VIEW.format(**{name: sql.format(since=since, until=until) for name, sql in parts.items()})
    )


def _rebuild(
    old: tuple[str, str], new: tuple[str, str], type_: sa.types.TypeEngine[int], shift: int
) -> None:
    """price_change with other columns for its seconds."""
    op.rename_table("price_change", "price_change_before")
    if op.get_bind().dialect.name == "postgresql":  # where the name of a key is taken, by its index
        op.drop_constraint("pk_price_change", "price_change_before", type_="primary")
    op.create_table(
        "price_change",
        sa.Column("series_id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("import_id", sa.Integer(), nullable=True),
        sa.Column(new[0], type_, nullable=False),
        sa.Column(new[1], type_, nullable=True),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series_id", new[0], name=op.f("pk_price_change")),
        sqlite_with_rowid=False,
    )
    moved = ", ".join(f"{column} + CAST({shift} AS BIGINT)" for column in old)
    op.execute(
        f"INSERT INTO price_change (series_id, import_id, {new[0]}, {new[1]}, price_micros)"  # noqa: S608
        f" SELECT series_id, import_id, {moved}, price_micros FROM price_change_before"
        f" ORDER BY series_id, {old[0]}"
    )
    op.drop_table("price_change_before")
