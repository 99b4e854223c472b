"""The schema, as SQLAlchemy Core tables. Rows stay plain, so that a BI tool can read them.

Prices: whole seconds since 1970 UTC (since 2000 in columns called `*_2000`) and integers of a
millionth of the currency, which keeps a change row near 24 bytes. Journal: timestamps and text.
Every column of a name with `_micros` is money in millionths of the row's (or its series') currency,
per hour, for the whole instance.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from arbiter.store.instants import Seconds2000, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# --- prices ---------------------------------------------------------------------------------

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("zone", Text, nullable=False),  # '' where the price holds for the whole region
    Column("instance_type", Text, nullable=False),
    Column("purchase", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("gpu_count", Integer, nullable=False),
    Column("source", Text, nullable=False),
    UniqueConstraint("provider", "tier", "region", "zone", "instance_type", "purchase", "currency"),
    Index(None, "gpu", "purchase"),
)

# One row per change. `to_2000` is NULL while the price stands; a gap means that it was not sold.
# Without a foreign key: series are never deleted, and PostgreSQL would check every row of an import
# on its own, which takes longer than writing it.
price_change = Table(
    "price_change",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("import_id", Integer),  # price_import.id; NULL where arbiter's own poll saw it
    Column("from_2000", Seconds2000, key="valid_from", primary_key=True, autoincrement=False),
    Column("to_2000", Seconds2000, key="valid_to"),
    Column("price_micros", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Where rows came from that no poll of ours saw: a provider's own history, or a user's file.
price_import = Table(
    "price_import",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("source", Text, nullable=False),
    Column("is_backfill", Boolean, nullable=False),
    Column("rows", Integer, nullable=False),
)

# One row per series and UTC day, built from price_change: what long windows are drawn from.
price_day = Table(
    "price_day",
    metadata,
    Column("series_id", Integer, ForeignKey("series.id"), primary_key=True),
    Column("day", Integer, primary_key=True),  # days since 1970-01-01 UTC
    Column("seconds", Integer, nullable=False),  # of the day for which a price stood
    Column("min_micros", BigInteger, nullable=False),
    Column("max_micros", BigInteger, nullable=False),
    Column("last_micros", BigInteger, nullable=False),
    Column("micros_seconds", BigInteger, nullable=False),  # price times time: the mean's numerator
    Column("changes", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# What stands now, one row per series that is on sale: what the planner reads.
price_now = Table(
    "price_now",
    metadata,
    Column("series_id", Integer, ForeignKey("series.id"), primary_key=True),
    Column("price_micros", BigInteger, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("priced_at", BigInteger),  # as the provider says; NULL where it does not
)

# When a part of a provider was last seen whole: the age of every quote in it.
coverage = Table(
    "coverage",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("region", Text, primary_key=True),
    Column("purchase", Text, primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
)

poll = Table(
    "poll",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("state", Text, nullable=False),  # ok | degraded | failed
    Column("offers", Integer, nullable=False),
    Column("changes", Integer, nullable=False),
    Column("withdrawn", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("malformed", Integer, nullable=False),
    Column("skips", Text, nullable=False),  # JSON: reason -> count
    Column("reasons", Text, nullable=False),  # JSON: why it is so, and notes
    Index(None, "provider", "id"),
)

# Rows of a poll that could not be believed: kept as they came, never used to decide.
quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("region", Text, nullable=False),  # '' where it is the whole batch
    Column("purchase", Text, nullable=False),  # '' where it is the whole batch
    Column("reason", Text, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("polls", Integer, nullable=False),  # how many polls in a row brought the same
    Column("offers", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the rows: zlib of JSON
    Column("ended_at", UtcDateTime),  # when a sound poll took its place; NULL while it stands
    Index(None, "provider", "ended_at"),
)

# What providers say of capacity and interruption, a row per change, each in its own unit.
signal = Table(
    "signal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("zone", Text, nullable=False),  # '' where it holds for the whole region
    Column("instance_type", Text, nullable=False),
    Column("purchase", Text, nullable=False),  # '' where it is about the hardware
    Column("unit", Text, nullable=False),
    Column("low", Float),
    Column("high", Float),
    Column("text", Text, nullable=False),
    Column("observed_at", BigInteger),  # as the provider says; NULL where it does not
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_to", BigInteger),
    Index(
        "ix_signal_key",
        "provider", "kind", "region", "zone", "instance_type", "purchase", "valid_from",
        unique=True,
    ),
)  # fmt: skip

# When a kind of signal was last seen whole: the age of every signal of it.
signal_coverage = Table(
    "signal_coverage",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
)

# Reference rates: millionths of the currency for one unit of the base, on a day.
fx_rate = Table(
    "fx_rate",
    metadata,
    Column("base", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("rate_micros", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("imported_at", UtcDateTime, nullable=False),
)

# --- fleet ----------------------------------------------------------------------------------

service = Table(
    "service",
    metadata,
    Column("name", Text, primary_key=True),
    Column("profile", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("tags", Text, nullable=False),  # JSON
    Column("sovereignty", Text),
    Column("paused", Boolean, nullable=False),
    Column("down", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("scaling", Text),  # JSON; NULL: only the user changes the number of replicas
    Column("lowered_at", UtcDateTime),  # when that number last became smaller
    Column("ordered_at", UtcDateTime),  # when it was last launched by order; NULL: long ago
)

# How much was asked of a service, from one look to another, as far back as scaling looks.
service_load = Table(
    "service_load",
    metadata,
    Column("service", Text, primary_key=True),
    Column("since", UtcDateTime, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Column("requests", Integer, nullable=False),  # running, waiting and held
    Column("passed", BigInteger, nullable=False),  # by the gateway, ever: tells what came and went
)

replica = Table(
    "replica",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("service", Text, ForeignKey("service.name"), nullable=False),
    Column("state", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("zone", Text),
    Column("instance_type", Text, nullable=False),
    Column("gpu", Text, nullable=False),
    Column("gpu_count", Integer, nullable=False),
    Column("purchase", Text, nullable=False),
    Column("variant", Text),
    Column("price_micros", BigInteger),
    Column("currency", Text),
    Column("launched_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("healthy_at", UtcDateTime),
    Column("endpoint", Text),
    Column("request_id", Text),
    Column("replaces", Text),
    Column("observed_region", Text),
    Column("observed_zone", Text),
    Column("paid_micros", BigInteger),  # read back; NULL where the provider does not tell
    Column("leaving_at", UtcDateTime),  # when its provider takes it away, as it gave notice
    Column("note", Text, nullable=False),
    Column("up_at", UtcDateTime),  # when its machine was first seen to be up
    Column("hedged_by", Text),  # the cluster launched beside it, for it was slow
    Column("parked_at", UtcDateTime),  # when it was last stopped and kept
    Index(None, "service", "state"),
)

# What a machine did before it was parked, a row for each time; `replica` has what it does since.
replica_run = Table(
    "replica_run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cluster", Text, nullable=False),
    Column("started", Boolean, nullable=False),  # it began from a parked machine
    Column("launched_at", UtcDateTime, nullable=False),
    Column("up_at", UtcDateTime),
    Column("healthy_at", UtcDateTime),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("price_micros", BigInteger),
    Column("paid_micros", BigInteger),
    Index(None, "cluster"),
)

refusal = Table(
    "refusal",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("service", Text, nullable=False),
    Column("offer_key", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("lost", Boolean, nullable=False),
    Index(None, "at"),
)

# The newest reading of every server's counters, and the rate since the one before.
replica_counters = Table(
    "replica_counters",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("running", Integer, nullable=False),
    Column("waiting", Integer, nullable=False),
    Column("generation_tokens", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger),
    Column("kv_usage", Float),
    Column("tokens_per_s", Float),  # NULL until there are two readings
    Index(None, "service"),
)

# What a server did in five minutes, summed over the windows between readings that ended in them.
served = Table(
    "served",
    metadata,
    Column("cluster", Text, primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),  # epoch s, of 300
    Column("service", Text, nullable=False),
    Column("seconds", Float, nullable=False),  # counted
    Column("tokens", BigInteger, nullable=False),  # output
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("saturated_seconds", Float, nullable=False),
    Column("saturated_tokens", BigInteger, nullable=False),
    Index(None, "service", "since"),
    sqlite_with_rowid=False,
)

# --- journal: append-only, written in the transaction that changes the state ------------------

decision = Table(
    "decision",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("plan", Text, nullable=False),  # JSON
    Column("inputs", LargeBinary, nullable=False),  # what plan() was given: zlib of JSON
    Index(None, "service", "at"),
)

action = Table(
    "action",
    metadata,
    Column("id", Text, primary_key=True),
    Column("decision_id", Text, ForeignKey("decision.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("service", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cluster", Text, nullable=False),
    Column("for_money", Boolean, nullable=False),
    Column("state", Text, nullable=False),  # intent | submitted | done | failed | abandoned
    Column("request_id", Text),
    Column("body", Text, nullable=False),  # JSON of the action
    Column("error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index(None, "state"),
    Index(None, "service", "created_at"),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Text, nullable=False),
    Column("service", Text),
    Column("cluster", Text),
    Column("decision_id", Text),
    Column("sentence", Text, nullable=False),
    Column("within_s", Float),  # of a loss: so long its cause was before, at most
    Index(None, "service", "id"),
    Index(None, "within_s"),
)

# What the planner has learnt (hazards, refusals, cold starts), one JSON document per name.
belief = Table(
    "belief",
    metadata,
    Column("name", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

# --- this arbiter -------------------------------------------------------------------------------

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
