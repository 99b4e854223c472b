"""The only SQL of the project: prices, fleet and journal on SQLite or PostgreSQL."""

SCHEMA = "0013"
"""The newest migration: the quick read path compares it without importing Alembic."""
