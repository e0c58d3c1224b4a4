"""What Alembic runs to migrate the ledger: on the connection, in the transaction, that `store.ledger` hands over."""

from alembic import context

from todoku.store.ledger_schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
