"""Messages, their recipients, every attempt, and how far each source has been read."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "message",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("arrived", sa.Double(), nullable=False),
        sa.Column("queue_id", sa.String(64)),
        sa.Column("message_id", sa.Text()),
        sa.Column("login", sa.String(254)),
        sa.Column("client", sa.Text()),
        sa.Column("sender", sa.Text()),
        sa.Column("size", sa.BigInteger()),
        sa.Column("gate", sa.String(16)),
        sa.Column("rule", sa.String(64)),
        sa.Column("words", sa.Text()),
        sa.Column("subject", sa.Text()),
        sa.Column("parent", sa.String(64)),
        sa.Column("removed", sa.Double()),
    )
    for column in ("arrived", "queue_id", "message_id", "sender", "parent"):
        op.create_index(f"ix_message_{column}", "message", [column])
    op.create_table(
        "recipient",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("message", _NUMBER, sa.ForeignKey("message.id", ondelete="CASCADE"), nullable=False),
        sa.Column("address", sa.String(320), nullable=False),
        sa.Column("original", sa.String(320)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("dsn", sa.String(16)),
        sa.Column("words", sa.Text()),
        sa.UniqueConstraint("message", "address", name="one_row_per_recipient"),
    )
    op.create_index("ix_recipient_address", "recipient", ["address", "message"])
    op.create_index("ix_recipient_original", "recipient", ["original"])
    unsettled = sa.text("state IN ('queued', 'deferred')")
    op.create_index(
        "recipient_unsettled", "recipient", ["state"], sqlite_where=unsettled, postgresql_where=unsettled
    )
    op.create_table(
        "attempt",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("recipient", _NUMBER, sa.ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("host", sa.Text()),
        sa.Column("dsn", sa.String(16)),
        sa.Column("words", sa.Text()),
    )
    op.create_index("ix_attempt_recipient", "attempt", ["recipient"])
    op.create_table(
        "checkpoint",
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("position", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    for table in ("checkpoint", "attempt", "recipient", "message"):
        op.drop_table(table)
