"""What Alembic runs to migrate the database of bulk mail: on the connection, in the transaction, that it is given."""

from alembic import context

from todoku.store.campaign_schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
