"""The steps from one schema of the ledger to the next, run by Alembic (`store.ledger.migrate`)."""
