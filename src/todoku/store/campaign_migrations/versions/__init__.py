"""The steps from one schema of bulk mail's database to the next, run by Alembic (`store.campaign.migrate`)."""
