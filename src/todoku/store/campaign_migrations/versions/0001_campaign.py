"""Lists, subscribers, what they agreed to, campaigns, and a row for each recipient."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _reference(name: str, to: str, on_delete: str | None, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, _NUMBER, sa.ForeignKey(f"{to}.id", ondelete=on_delete), nullable=nullable)


def upgrade() -> None:
    _people()
    _campaigns()


def _people() -> None:
    op.create_table(
        "list",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("consent_text", sa.Text(), nullable=False),
        sa.Column("double_opt_in", sa.Boolean(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subscriber",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("address", sa.String(254), nullable=False, unique=True),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("blocked", sa.String(16)),
        sa.Column("blocked_since", sa.Double()),
        sa.Column("blocked_words", sa.Text()),
        sa.Column("created", sa.Double(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "subscription",
        sa.Column("list", _NUMBER, sa.ForeignKey("list.id", ondelete="CASCADE"), primary_key=True),
        sa.Column(
            "subscriber", _NUMBER, sa.ForeignKey("subscriber.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("has_evidence", sa.Boolean(), nullable=False),
    )
    op.create_index("ix_subscription_subscriber", "subscription", ["subscriber"])
    op.create_table(
        "consent",
        sa.Column("id", _NUMBER, primary_key=True),
        _reference("list", "list", "CASCADE"),
        _reference("subscriber", "subscriber", "CASCADE"),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
    )
    op.create_index("ix_consent_subscriber", "consent", ["subscriber"])
    op.create_table(
        "forgotten",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("since", sa.Double(), nullable=False),
    )


def _campaigns() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        _reference("list", "list", None),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("subject_b", sa.Text()),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("html", sa.Text()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("words", sa.Text()),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("starts", sa.Double()),
        sa.Column("ended", sa.Double()),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "recipient",
        sa.Column("id", _NUMBER, primary_key=True),
        _reference("campaign", "campaign", "CASCADE"),
        _reference("subscriber", "subscriber", "SET NULL", nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("variant", sa.String(1), nullable=False),
        sa.Column("due", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("settled", sa.Double()),
        sa.Column("code", sa.Integer()),
        sa.Column("words", sa.Text()),
        sa.Column("later", sa.String(16)),
        sa.UniqueConstraint("campaign", "subscriber", name="one_row_per_subscriber"),
    )
    op.create_index("ix_recipient_subscriber", "recipient", ["subscriber"])
    unsettled = sa.text("state IN ('ready', 'leased', 'deferred')")
    op.create_index(
        "recipient_unsettled",
        "recipient",
        ["campaign", "due", "id"],
        sqlite_where=unsettled,
        postgresql_where=unsettled,
    )
    sent = sa.text("state = 'sent'")
    op.create_index("recipient_sent", "recipient", ["settled"], sqlite_where=sent, postgresql_where=sent)
    heard = sa.text("later IS NOT NULL")
    op.create_index("recipient_later", "recipient", ["campaign"], sqlite_where=heard, postgresql_where=heard)
    op.create_table(
        "attempt",
        sa.Column("id", _NUMBER, primary_key=True),
        _reference("recipient", "recipient", "CASCADE"),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("code", sa.Integer()),
        sa.Column("words", sa.Text(), nullable=False),
    )
    op.create_index("ix_attempt_recipient", "attempt", ["recipient"])
