"""What Alembic runs to migrate: on the connection, and in the transaction, that `store.migrate` hands over.

So a migration that is interrupted has not happened (SQLite's DDL is transactional), and two at once wait.
"""

from alembic import context

from todoku.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
