"""Two subjects tried on a part of the list; opens and clicks; what bounced to us; domains that are slowed down."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _campaign()
    op.create_table(
        "link",
        sa.Column("campaign", _NUMBER, sa.ForeignKey("campaign.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("target", sa.Text(), nullable=False),
    )
    op.create_table(
        "reaction",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("recipient", _NUMBER, sa.ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False),
        sa.Column("link", sa.Integer(), nullable=False),
        sa.Column("by_machine", sa.Boolean(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.UniqueConstraint("recipient", "link", "by_machine", name="one_row_per_reaction"),
    )
    op.create_table(
        "bounce",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("subscriber", _NUMBER, sa.ForeignKey("subscriber.id", ondelete="CASCADE"), nullable=False),
        sa.Column("recipient", _NUMBER, sa.ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.UniqueConstraint("recipient", "what", name="one_row_per_bounce"),
    )
    op.create_index("ix_bounce_subscriber", "bounce", ["subscriber"])
    op.create_table(
        "slowed",
        sa.Column("domain", sa.String(255), primary_key=True),
        sa.Column("rests_until", sa.Double(), nullable=False),
    )


def _campaign() -> None:
    op.add_column("campaign", sa.Column("test_share", sa.Integer()))
    op.add_column("campaign", sa.Column("decide_after", sa.Double()))
    op.add_column("campaign", sa.Column("decide_by", sa.String(16)))
    op.add_column("campaign", sa.Column("winner", sa.String(1)))
    op.add_column("campaign", sa.Column("winner_words", sa.Text()))
    for name in ("counts_opens", "counts_clicks"):
        op.add_column("campaign", sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false()))
