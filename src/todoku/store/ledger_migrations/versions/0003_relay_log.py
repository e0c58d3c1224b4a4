"""The relay's own log, each line of it once; and when a deferred message is tried next."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("recipient", sa.Column("next_try", sa.Double()))
    op.create_table(
        "relay_line",
        sa.Column("id", sa.String(250), primary_key=True),
        sa.Column("heard", sa.Double(), nullable=False),
        sa.Column("content", sa.Text()),
    )
    op.create_index("ix_relay_line_heard", "relay_line", ["heard"])


def downgrade() -> None:
    op.drop_table("relay_line")
    with op.batch_alter_table("recipient") as recipient:
        recipient.drop_column("next_try")
