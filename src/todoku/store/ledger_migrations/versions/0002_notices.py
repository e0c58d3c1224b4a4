"""Notices to senders: written together with what they are about, and sent once."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "notice",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("key", sa.String(100), nullable=False, unique=True),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
    )
    op.create_index("ix_notice_created", "notice", ["created"])


def downgrade() -> None:
    op.drop_table("notice")
