"""What an account may send as besides its own addresses."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "send_as",
        sa.Column(
            "account_id", sa.Integer(), sa.ForeignKey("account.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("sender", sa.String(254), primary_key=True),
    )
    op.create_index("ix_send_as_sender", "send_as", ["sender"])


def downgrade() -> None:
    op.drop_table("send_as")
