"""Several workers: whose lease a row is, what all of them have sent lately, and that they have one key."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("recipient", sa.Column("owner", sa.String(40)))
    op.create_table(
        "spent",
        sa.Column("seconds", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("amount", sa.Integer(), nullable=False),
    )
    op.create_table(
        "spent_on_domain",
        sa.Column("domain", sa.String(254), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("amount", sa.Integer(), nullable=False),
    )
    op.add_column("slowed", sa.Column("owner", sa.String(40)))
    op.create_table(
        "shared_pace",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("filled", sa.Double(), nullable=False),
        sa.Column("granted", sa.Double(), nullable=False),
        sa.Column("key_digest", sa.String(64)),
    )
    op.execute("INSERT INTO shared_pace (id, tokens, filled, granted) VALUES (1, 1, 0, 0)")
