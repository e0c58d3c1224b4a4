"""When the recipient's own server took a message, as the relay's log has it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("recipient", sa.Column("relayed", sa.Double()))
    there = sa.text("relayed IS NOT NULL")
    op.create_index(
        "recipient_relayed", "recipient", ["campaign"], sqlite_where=there, postgresql_where=there
    )
