"""Accounts, their addresses, and aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("login", sa.String(254), nullable=False, unique=True),
        sa.Column("password", sa.String(512)),
        sa.Column("quota", sa.BigInteger()),
        sa.Column("created", sa.String(32), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "address",
        sa.Column("address", sa.String(254), primary_key=True),
        sa.Column(
            "account_id", sa.Integer(), sa.ForeignKey("account.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("is_primary", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_address_account_id", "address", ["account_id"])
    op.create_index(
        "one_primary_address_per_account",
        "address",
        ["account_id"],
        unique=True,
        sqlite_where=sa.text("is_primary = 1"),
        postgresql_where=sa.text("is_primary"),
    )
    op.create_table(
        "alias",
        sa.Column("address", sa.String(254), primary_key=True),
        sa.Column("target", sa.String(254), primary_key=True),
    )
    op.create_index("ix_alias_target", "alias", ["target"])


def downgrade() -> None:
    for table in ("alias", "address", "account"):
        op.drop_table(table)
