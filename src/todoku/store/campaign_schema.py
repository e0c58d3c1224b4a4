"""The tables of bulk mail, as SQLAlchemy Core knows them. How they came to be is in `campaign_migrations/versions`.

Times are seconds since 1970, UTC. Addresses are in lower case, their domains A-labels. What a person agreed to is
never changed, only added to; who is forgotten leaves nothing but a keyed digest, by which no import brings the
address back.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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
    false,
)

metadata = MetaData()

Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row numbers are INTEGER, and as wide

subscription_list = Table(
    "list",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),  # "news": in List-Id and in addresses of pages
    Column("title", Text, nullable=False),  # as people read it
    Column("consent_text", Text, nullable=False),  # what people agree to in the form
    Column("double_opt_in", Boolean, nullable=False),
    Column("is_open", Boolean, nullable=False),  # whether the form takes everybody
    Column("created", Double, nullable=False),
    sqlite_autoincrement=True,
)

subscriber = Table(
    "subscriber",
    metadata,
    Column("id", Number, primary_key=True),
    Column("address", String(254), nullable=False, unique=True),
    Column("attributes", JSON, nullable=False),  # texts by name
    Column("language", String(2), nullable=False),  # of the pages: "ja" or "en"
    Column(
        "blocked", String(16)
    ),  # bounced, complained, suppressed: gets nothing of any list; NULL: gets mail
    Column("blocked_since", Double),
    Column("blocked_words", Text),
    Column("created", Double, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again: old links must not mean somebody else
)

subscription = Table(
    "subscription",
    metadata,
    Column("list", ForeignKey("list.id", ondelete="CASCADE"), primary_key=True),
    Column("subscriber", ForeignKey("subscriber.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("state", String(16), nullable=False),  # unconfirmed, confirmed, unsubscribed
    Column("since", Double, nullable=False),
    Column("has_evidence", Boolean, nullable=False),  # whether it is known when and how they agreed
)

consent = Table(
    "consent",
    metadata,
    Column("id", Number, primary_key=True),
    Column("list", ForeignKey("list.id", ondelete="CASCADE"), nullable=False),
    Column("subscriber", ForeignKey("subscriber.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("time", Double, nullable=False),
    Column("what", String(16), nullable=False),  # asked, confirmed, unsubscribed, imported, added
    Column(
        "source", Text, nullable=False
    ),  # the page and the client's address; the file and its line; who typed it
    Column("text", Text, nullable=False),  # what they agreed to, or the evidence as it was imported
)

forgotten = Table(
    "forgotten",
    metadata,
    Column("digest", String(64), primary_key=True),  # HMAC-SHA-256 of the address
    Column("since", Double, nullable=False),
)

campaign = Table(
    "campaign",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("list", ForeignKey("list.id"), nullable=False),
    Column("kind", String(16), nullable=False),  # bulk; confirmation: asks who filled in the form of a list
    Column("segment", Text, nullable=False),  # empty: everybody
    Column("subject", Text, nullable=False),
    Column("subject_b", Text),  # a second one
    Column("test_share", Integer),  # percent who get one of the two first; NULL: everybody does
    Column("decide_after", Double),  # seconds after the last of those; NULL: when somebody has chosen
    Column("decide_by", String(16)),  # `campaign.trial.MEASURES`; NULL: somebody chooses
    Column("winner", String(1)),  # a or b: which subject the others get
    Column("winner_words", Text),  # why
    Column("counts_opens", Boolean, nullable=False, server_default=false()),
    Column("counts_clicks", Boolean, nullable=False, server_default=false()),
    Column("text", Text, nullable=False),
    Column("html", Text),
    Column("state", String(16), nullable=False),  # `campaign.campaigns.STATES`
    Column("reason", Text),  # why it is sent to people without evidence
    Column("words", Text),  # why it stopped
    Column("created", Double, nullable=False),
    Column("starts", Double),
    Column("ended", Double),
    sqlite_autoincrement=True,
)

recipient = Table(
    "recipient",
    metadata,
    Column("id", Number, primary_key=True),
    Column("campaign", ForeignKey("campaign.id", ondelete="CASCADE"), nullable=False),
    Column("subscriber", ForeignKey("subscriber.id", ondelete="SET NULL"), index=True),
    Column("state", String(16), nullable=False),  # `campaign.campaigns.SETTLED` and what leads there
    Column(
        "variant", String(1), nullable=False
    ),  # a or b: which subject; r: that of the winner, once it is known
    # When it may be tried; where there are several workers, also when its lease ends.
    Column("due", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("settled", Double),  # when the relay took it, or refused it for good
    Column("code", Integer),  # the relay's last reply
    Column("words", Text),
    Column("later", String(16)),  # what was heard after it was sent: bounced, complained, unsubscribed
    Column("owner", String(40)),  # the worker that has leased it, where there are several
    Column("relayed", Double),  # when the recipient's own server took it, as the relay's log has it
    UniqueConstraint("campaign", "subscriber", name="one_row_per_subscriber"),
)

_unsettled = recipient.c.state.in_(("ready", "leased", "deferred"))
Index(
    "recipient_unsettled",
    recipient.c.campaign,
    recipient.c.due,
    recipient.c.id,
    sqlite_where=_unsettled,
    postgresql_where=_unsettled,
)
_sent = recipient.c.state == "sent"
Index("recipient_sent", recipient.c.settled, sqlite_where=_sent, postgresql_where=_sent)
_heard = recipient.c.later.is_not(None)
Index("recipient_later", recipient.c.campaign, sqlite_where=_heard, postgresql_where=_heard)
_relayed = recipient.c.relayed.is_not(None)
Index("recipient_relayed", recipient.c.campaign, sqlite_where=_relayed, postgresql_where=_relayed)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Number, primary_key=True),
    Column("recipient", ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("time", Double, nullable=False),
    Column("code", Integer),  # NULL: no answer
    Column("words", Text, nullable=False),
)

link = Table(
    "link",
    metadata,
    Column("campaign", ForeignKey("campaign.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1 on, as they stand in the HTML
    Column("target", Text, nullable=False),  # where it leads: nobody else says
)

# First time and how often, and nothing of who looked: neither address nor program.
reaction = Table(
    "reaction",
    metadata,
    Column("id", Number, primary_key=True),
    Column("recipient", ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False),
    Column("link", Integer, nullable=False),  # its number; 0: the picture that says that it was opened
    Column("by_machine", Boolean, nullable=False),  # as far as that can be known
    Column("time", Double, nullable=False),
    Column("times", Integer, nullable=False),
    UniqueConstraint("recipient", "link", "by_machine", name="one_row_per_reaction"),
)

# What came to the return address, about one message each.
bounce = Table(
    "bounce",
    metadata,
    Column("id", Number, primary_key=True),
    Column("subscriber", ForeignKey("subscriber.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("recipient", ForeignKey("recipient.id", ondelete="CASCADE"), nullable=False),
    Column("time", Double, nullable=False),
    Column("what", String(16), nullable=False),  # hard, soft, complaint, unsubscribe
    Column("status", String(16), nullable=False),  # RFC 3463: "5.1.1"; empty where none was said
    Column("words", Text, nullable=False),
    UniqueConstraint("recipient", "what", name="one_row_per_bounce"),
)

slowed = Table(
    "slowed",
    metadata,
    Column("domain", String(255), primary_key=True),
    Column("rests_until", Double, nullable=False),  # then one at a time, then two, ... (`campaign.pace`)
    Column("owner", String(40)),  # the worker that heard it, where there are several
)

# With PostgreSQL only, where several workers share the pace.

spent = Table(
    "spent",
    metadata,
    Column("seconds", Integer, primary_key=True, autoincrement=False),  # the size of the bucket
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("amount", Integer, nullable=False),  # how many all workers have sent or mean to send
)

spent_on_domain = Table(
    "spent_on_domain",
    metadata,
    Column("domain", String(254), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),  # buckets of a second
    Column("amount", Integer, nullable=False),
)

shared_pace = Table(  # one row; whoever asks for a share of the pace locks it
    "shared_pace",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("tokens", Double, nullable=False),  # of campaign.per_second
    Column("filled", Double, nullable=False),
    Column("granted", Double, nullable=False),  # to all workers, ever
    Column("key_digest", String(64)),  # of the key that all workers have to have
)
