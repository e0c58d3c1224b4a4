"""The tables, as SQLAlchemy Core knows them. How they came to be is in `migrations/versions`.

Addresses are kept as `directory` normalises them: domain as lower-case A-labels, local part in lower case. An
address belongs to one account or is an alias, never both; the directory checks that within its transaction.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, true

metadata = MetaData()

account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("login", String(254), nullable=False, unique=True),  # "alice@hoge.example"; "alice" in system mode
    Column("password", String(512)),  # an Argon2id hash; NULL in system mode, where PAM knows it
    Column("quota", BigInteger),  # bytes; 0: no limit; NULL: as in the settings
    Column("created", String(32), nullable=False),  # ISO 8601, UTC
    sqlite_autoincrement=True,  # an id is never used again: no later account inherits what refers to it
)

address = Table(
    "address",
    metadata,
    Column("address", String(254), primary_key=True),
    Column("account_id", ForeignKey("account.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("is_primary", Boolean, nullable=False),
)

Index(
    "one_primary_address_per_account",
    address.c.account_id,
    unique=True,
    sqlite_where=address.c.is_primary == true(),
    postgresql_where=address.c.is_primary == true(),
)

# What an account may send as besides its own addresses.
send_as = Table(
    "send_as",
    metadata,
    Column("account_id", ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    Column("sender", String(254), primary_key=True, index=True),  # "@hoge.example": the whole domain
)

alias = Table(
    "alias",
    metadata,
    Column("address", String(254), primary_key=True),
    Column("target", String(254), primary_key=True, index=True),
)
