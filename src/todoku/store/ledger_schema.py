"""The ledger's tables, as SQLAlchemy Core knows them. How they came to be is in `ledger_migrations/versions`.

Times are seconds since 1970, UTC. Addresses are in lower case. Neither bodies nor subjects: a subject only where
the settings ask for it. One process writes (`delivery.agent`), and numbers the rows itself.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row numbers are INTEGER, and as wide

message = Table(
    "message",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("arrived", Double, nullable=False, index=True),
    Column("queue_id", String(64), index=True),  # NULL: refused before it had one
    Column("message_id", Text, index=True),
    Column("login", String(254)),  # who authenticated
    Column("client", Text),  # address of who handed it over; empty: made on this machine
    Column("sender", Text, index=True),  # envelope sender; "" is the null sender
    Column("size", BigInteger),  # bytes
    Column("gate", String(16)),  # what the gate decided: passed, refused, held back; NULL: not known
    Column("rule", String(64)),  # the gate's rule that decided
    Column("words", Text),  # its reply
    Column("subject", Text),  # only with ledger.subjects
    Column("parent", String(64), index=True),  # queue id of the message that this one is a notice about
    Column("removed", Double),  # when it left the queue
)

recipient = Table(
    "recipient",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("message", ForeignKey("message.id", ondelete="CASCADE"), nullable=False),
    Column("address", String(320), nullable=False),
    Column("original", String(320), index=True),  # as it was addressed, when an alias led here
    Column("state", String(16), nullable=False),  # `delivery.states`
    Column("since", Double, nullable=False),
    Column("dsn", String(16)),  # enhanced status code (RFC 3463)
    Column("words", Text),  # what the other side said last
    Column("next_try", Double),  # while it is deferred: not before then
    UniqueConstraint("message", "address", name="one_row_per_recipient"),
)

Index("ix_recipient_address", recipient.c.address, recipient.c.message)  # the latest of an address at once
Index(
    "recipient_unsettled",
    recipient.c.state,
    sqlite_where=recipient.c.state.in_(("queued", "deferred")),
    postgresql_where=recipient.c.state.in_(("queued", "deferred")),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=False),
    Column("recipient", ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("time", Double, nullable=False),
    Column("state", String(16), nullable=False),  # what the recipient's state was after it
    Column("host", Text),  # who was asked: "smtp.example[192.0.2.1]:587"
    Column("dsn", String(16)),
    Column("words", Text),
)

notice = Table(
    "notice",
    metadata,
    Column("id", Number, primary_key=True),
    Column("key", String(100), nullable=False, unique=True),  # what it is about: nobody is told that twice
    Column("recipient", Text, nullable=False),
    Column("message_id", Text, nullable=False),  # its own, by which the log tells that it was taken
    Column("content", Text, nullable=False),
    Column("state", String(16), nullable=False),  # waiting, sending, sent, refused
    Column("created", Double, nullable=False, index=True),
)

# What the relay's own log said (`delivery.relay_log`): each line counts once, however often it is read.
relay_line = Table(
    "relay_line",
    metadata,
    Column("id", String(250), primary_key=True),  # the log's own
    Column("heard", Double, nullable=False, index=True),
    Column("content", Text),  # JSON, as long as the message that it is about is not in the ledger yet
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("source", String(200), primary_key=True),
    Column("position", Text, nullable=False),  # JSON, the source's own
)
