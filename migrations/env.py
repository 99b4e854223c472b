"""Alembic's entry: arbiter hands it an open connection; the alembic command line makes its own."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from arbiter.store.tables import metadata


def migrate(connection: Connection) -> None:
    """Bring the schema of this connection to the newest revision."""
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    from arbiter.store.engine import make_engine

    with make_engine(os.environ["ARBITER_DATABASE_URL"]).connect() as opened:
        migrate(opened)
        opened.commit()
